from __future__ import annotations

import socket
import sys

import pytest

from deploy.local.errors import PortUnusable
from deploy.local.ports import HOST, Reservation, listen


def connects(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex((HOST, port)) == 0


def test_listening_on_a_free_port() -> None:
    with listen(0, "GATEWAY_PORT") as listener:
        assert connects(listener.getsockname()[1])


def test_a_port_in_use_is_one_message_that_names_the_setting() -> None:
    with listen(0, "GATEWAY_PORT") as listener:
        port = listener.getsockname()[1]
        with pytest.raises(PortUnusable, match=f"Port {port} .*already in use.*GATEWAY_PORT"):
            listen(port, "GATEWAY_PORT")
        with pytest.raises(PortUnusable, match="APPROVAL_PORT"):
            Reservation(port, setting="APPROVAL_PORT")


def test_a_reserved_port_answers_nobody_and_can_be_listened_on_again_and_again() -> None:
    with Reservation() as reserved:
        assert not connects(reserved.port)
        for _ in range(2):
            with listen(reserved.port, "GATEWAY_PORT"):
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
