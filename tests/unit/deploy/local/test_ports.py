from __future__ import annotations

import socket
import sys
from contextlib import closing

import pytest

from deploy.local.errors import PortUnusable
from deploy.local.ports import HOST, SHARES_PORTS, Reservation
from shared.server.sockets import open_sockets


def connects(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex((HOST, port)) == 0


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("other_shares", [False, True])
def test_a_port_in_use_is_one_message_that_names_the_setting(
    *, shared: bool, other_shares: bool
) -> None:
    (other,) = open_sockets([HOST], 0, reuse_port=other_shares)
    with closing(other):
        port = other.getsockname()[1]
        with pytest.raises(PortUnusable, match=f"Port {port} .*already in use.*GATEWAY_PORT"):
            Reservation(port, setting="GATEWAY_PORT", shared=shared)


def test_a_reserved_port_answers_nobody_and_can_be_listened_on_again_and_again() -> None:
    with Reservation() as reserved:
        assert not connects(reserved.port)
        for _ in range(2):
            (listener,) = open_sockets([HOST], reserved.port)
            with closing(listener):
                assert connects(reserved.port)
        assert not connects(reserved.port)


@pytest.mark.xfail(sys.platform != "linux", reason="only Linux lets a port be held", strict=True)
def test_a_reserved_port_is_given_to_nobody_else() -> None:
    reserved = [Reservation() for _ in range(200)]
    assert len({one.port for one in reserved}) == 200
    with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
        stranger.bind((HOST, reserved[0].port))
    for one in reserved:
        one.release()


@pytest.mark.xfail(not SHARES_PORTS, reason="only Linux shares a port", strict=True)
class TestShared:
    def test_it_is_given_to_all_who_share_it_and_to_nobody_else(self) -> None:
        with Reservation(shared=True) as reserved:
            first = open_sockets([HOST], reserved.port, reuse_port=True)
            second = open_sockets([HOST], reserved.port, reuse_port=True)
            assert connects(reserved.port)
            with pytest.raises(OSError, match="in use"):
                socket.create_server((HOST, reserved.port))
            for listener in first + second:
                listener.close()

    def test_a_second_reservation_is_refused_before_anything_listens(self) -> None:
        with (
            Reservation(shared=True) as reserved,
            pytest.raises(PortUnusable, match="already in use"),
        ):
            Reservation(reserved.port, shared=True)

    def test_old_connections_do_not_prevent_it(self) -> None:
        (listener,) = open_sockets([HOST], 0, reuse_port=True)
        port = listener.getsockname()[1]
        with socket.create_connection((HOST, port)) as client:
            listener.setblocking(True)
            listener.accept()[0].close()  # the side that closes first keeps the port for a minute
            assert client.recv(1) == b""
        listener.close()
        Reservation(port, shared=True).release()
