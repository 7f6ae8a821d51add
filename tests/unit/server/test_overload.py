"""In an overload, the kernel holds back new connections, and health checks are answered."""

from __future__ import annotations

import errno
import os
import socket
import sys
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from shared.server.accept import ACCEPTED_PER_TURN, BulkAcceptor
from shared.server.listener_filter import ListenerFilter
from shared.server.passing_share import PassingShare
from shared.server.sockets import open_sockets
from tests.support.websocket.raw_socket import RawSocket, upgrade_bytes
from tests.unit.server.test_accept import HEALTH, OK, Served, upgrading
from tools.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="other systems turn clients away instead (test_accept.py)"
)

OTHER_THAN_HEALTH = b"GET /livez/x HTTP/1.1\r\n\r\n"
"""A request that the kernel lets through, and that is not answered at accept."""
LIMIT = 100
CROWD = 3 * ACCEPTED_PER_TURN


class Waiting(Served):
    """A request that waits until it is served."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def data_received(self, data: bytes) -> None:
        if self._server.waits:
            self._server.waiting.append(self)
        else:
            super().data_received(data)

    def serve(self) -> None:
        super().data_received(b"")


class Server:
    """An acceptor whose upgrades wait until they are served."""

    def __init__(self) -> None:
        listeners = open_sockets(("127.0.0.1",), 0)
        self.port: int = listeners[0].getsockname()[1]
        self.waits = True
        self.waiting: list[Waiting] = []
        self.made = 0
        self.turned_away = 0
        self.asked: list[bytes] = []
        self.acceptor = BulkAcceptor(
            listeners,
            self.make,
            lambda: None,
            upgrades=lambda: (len(self.waiting), LIMIT),
            on_turned_away=self.count,
            always=[b"GET /livez"],
            answer=self.answer,
        )

    def make(self, _peer: str) -> Waiting:
        self.made += 1
        return Waiting(self)

    def count(self) -> None:
        self.turned_away += 1

    def answer(self, request: bytes) -> bytes | None:
        self.asked.append(request)
        return OK if request == HEALTH else None

    def serve_all(self) -> None:
        self.waits = False
        served, self.waiting = self.waiting, []
        for one in served:
            one.serve()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    yield server
    server.acceptor.stop()


@pytest.mark.timeout(60)
async def test_all_clients_are_served_in_the_end_and_health_checks_at_once(server: Server) -> None:
    async with AsyncExitStack() as stack:
        sockets = await upgrading(server.port, stack, CROWD)
        server.acceptor.start()
        await until(lambda: len(server.waiting) >= LIMIT, "the first are accepted")
        await until(lambda: server.acceptor.filtered_seconds > 0, "the kernel filters")
        late = await upgrading(server.port, stack, CROWD)
        async with await RawSocket.tcp(server.port) as raw:
            await raw.send_bytes(HEALTH)
            await raw.upgraded()
            assert raw.status == 200
            assert await raw.read_to_end(), "it is closed, and the response is not lost"
        assert HEALTH in server.asked, "it was answered at accept"
        assert len(server.waiting) < 2 * CROWD, "some are held back"
        server.serve_all()
        for raw in (*sockets, *late):
            await raw.upgraded()
            assert raw.status == 200
    assert server.turned_away == 0


@pytest.mark.timeout(60)
async def test_health_checks_do_not_count_as_waiting_upgrades(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many arrive, they do not hold back other connections."""
    counts: list[tuple[int, int]] = []
    adjust = PassingShare.adjust

    def record(passing: PassingShare, now: float, **numbers: int) -> None:
        counts.append((numbers["accepted"], numbers["arrived"]))
        adjust(passing, now, **numbers)

    monkeypatch.setattr(PassingShare, "adjust", record)
    async with AsyncExitStack() as stack:
        sockets = await upgrading(server.port, stack, CROWD)
        server.acceptor.start()
        await until(lambda: server.acceptor.filtered_seconds > 0, "the kernel filters")
        server.serve_all()
        for raw in sockets:
            await raw.upgraded()
        until_now = len(counts)
        await until(lambda: counts[until_now:][-2:] == [(0, 0)] * 2, "all are accepted")
        until_now = len(counts)
        for request in (HEALTH, OTHER_THAN_HEALTH) * (LIMIT // 2):
            client = socket.create_connection(("127.0.0.1", server.port))
            stack.callback(client.close)
            client.sendall(request)
        await until(
            lambda: sum(accepted for accepted, _ in counts[until_now:]) == LIMIT, "all are accepted"
        )
    assert not any(arrived for _, arrived in counts[until_now:])


@pytest.mark.timeout(60)
async def test_where_the_kernel_refuses_the_filter_upgrades_are_turned_away(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = []

    def refuse(refused: ListenerFilter, share: float) -> None:
        refused.is_inherited = True
        shares.append(share)
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(ListenerFilter, "_attach", refuse)
    async with AsyncExitStack() as stack:
        await upgrading(server.port, stack, CROWD)
        server.acceptor.start()
        await until(lambda: bool(shares), "the filter is attached")
        await until(lambda: len(server.waiting) >= LIMIT, "the first are accepted")
        for _ in range(ACCEPTED_PER_TURN):  # without a turn of the loop in between
            client = socket.create_connection(("127.0.0.1", server.port))
            stack.callback(client.close)
            client.sendall(upgrade_bytes(server.port))
        await until(lambda: server.turned_away == ACCEPTED_PER_TURN, "others are turned away")
    assert server.acceptor.filtered_seconds == 0.0


@pytest.mark.timeout(60)
async def test_a_client_that_gave_up_is_closed_at_accept(server: Server) -> None:
    async with AsyncExitStack() as stack:
        await upgrading(server.port, stack, CROWD)
        server.acceptor.start()
        await until(lambda: server.acceptor.filtered_seconds > 0, "the kernel filters")
        made = server.made
        for leaves in (True, False, True):  # without a turn of the loop in between
            client = socket.create_connection(("127.0.0.1", server.port))
            stack.callback(client.close)
            client.sendall(OTHER_THAN_HEALTH)
            if leaves:
                client.close()
        await until(lambda: OTHER_THAN_HEALTH in server.asked, "they are accepted")
        await until(lambda: server.made > made, "the one that waits is served")
        assert server.asked.count(OTHER_THAN_HEALTH) == 1
