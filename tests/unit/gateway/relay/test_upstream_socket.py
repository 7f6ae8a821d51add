"""One client's sockets to the upstream: pauses, pings, the end, and a listener that closes one."""

from __future__ import annotations

import asyncio
import base64
from hashlib import sha1
from typing import TYPE_CHECKING, Any, cast

import pytest

from services.gateway.relay.link import UpstreamLink
from services.gateway.relay.upstream import socket as upstream_socket
from services.gateway.relay.upstream.socket import UpstreamSocket
from services.gateway.websocket.frame_parser import TEXT
from services.gateway.websocket.frames import frame_header
from shared.server.loop_budget import Lane, LoopBudget
from tests.support.loop_budget import loop_budget
from tools.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
PING_BYTES = 6


class Transport:
    """A transport whose peer reads nothing."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.closing = False
        self.aborted = False
        self.is_reading = True

    def write(self, data: bytes) -> None:
        self.written += data

    def writelines(self, parts: Iterable[bytes]) -> None:
        self.written += b"".join(parts)

    def get_write_buffer_size(self) -> int:
        return len(self.written)

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True


class Listener:
    """Closes the socket when it holds too much, as a session does that exceeds the memory limit."""

    def __init__(self) -> None:
        self.socket: UpstreamSocket | None = None
        self.limit_bytes = 1_000_000
        self.calls: list[str] = []
        self.texts: list[bytes] = []

    def on_text(self, payload: bytes) -> None:
        self.texts.append(payload)

    def on_end(self, code: int | None, reason: str) -> None:
        self.calls.append("end")

    def on_held(self, held_bytes: int) -> None:
        if held_bytes > self.limit_bytes and self.socket is not None:
            self.socket.close(1000)

    def on_full(self) -> None:
        self.calls.append("full")

    def on_drained(self) -> None:
        self.calls.append("drained")


@pytest.fixture
async def transport() -> Transport:
    return Transport()


@pytest.fixture
async def listener() -> Listener:
    return Listener()


@pytest.fixture
async def socket(transport: Transport, listener: Listener) -> UpstreamSocket:
    """Return an open socket."""
    made = listener.socket = UpstreamSocket("/", [], listener, loop_budget())
    stub: Any = transport
    made.connection_made(stub)
    key = bytes(transport.written).partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
    accept = base64.b64encode(sha1(key + _GUID, usedforsecurity=False).digest())
    made.data_received(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    assert made.is_open
    transport.written.clear()
    return made


@pytest.fixture
async def busy(monkeypatch: pytest.MonkeyPatch, socket: UpstreamSocket) -> list[Callable[[], None]]:
    """Return what runs in the next iteration of an event loop that has no time left."""
    turns: list[Callable[[], None]] = []
    budget = LoopBudget(turns.append)
    budget.end(Lane.SESSIONS, budget.begin(Lane.SESSIONS) - 1.0)
    monkeypatch.setattr(socket, "_budget", budget)
    return turns


def frames(count: int, size: int = 1000) -> bytes:
    return b"".join(
        frame_header(TEXT, size) + str(number).encode().zfill(size) for number in range(count)
    )


def turn(turns: list[Callable[[], None]]) -> None:
    due = turns[:]
    turns.clear()
    for run in due:
        run()


async def test_frames_wait_while_the_loop_has_no_time_and_come_complete_and_in_order(
    socket: UpstreamSocket,
    transport: Transport,
    listener: Listener,
    busy: list[Callable[[], None]],
) -> None:
    sent = frames(200)
    for at in range(0, len(sent), 30_000):
        socket.data_received(sent[at : at + 30_000])
    assert listener.texts == []
    assert not transport.is_reading
    while busy:
        turn(busy)
    assert listener.texts == [str(number).encode().zfill(1000) for number in range(200)]
    assert transport.is_reading


async def test_waiting_frames_are_delivered_before_the_end_of_the_upstream(
    socket: UpstreamSocket, listener: Listener, busy: list[Callable[[], None]]
) -> None:
    socket.data_received(frames(3))
    socket.connection_lost(None)
    assert len(listener.texts) == 3
    assert listener.calls == ["end"]
    turn(busy)
    assert listener.calls == ["end"]


async def test_waiting_frames_are_dropped_when_the_client_leaves(
    socket: UpstreamSocket, listener: Listener, busy: list[Callable[[], None]]
) -> None:
    socket.data_received(frames(3))
    socket.close(1000)
    turn(busy)
    assert listener.texts == []


async def test_reading_stays_paused_after_the_wait_for_a_client_that_does_not_read(
    socket: UpstreamSocket, transport: Transport, busy: list[Callable[[], None]]
) -> None:
    socket.data_received(frames(100))
    socket.pause_reading()
    while busy:
        turn(busy)
    assert not transport.is_reading
    socket.resume_reading()
    assert transport.is_reading


async def test_waiting_bytes_count_as_held(
    socket: UpstreamSocket, listener: Listener, busy: list[Callable[[], None]]
) -> None:
    listener.limit_bytes = 50_000
    socket.data_received(frames(40))
    assert listener.calls == []
    socket.data_received(frames(40))
    assert not socket.is_open
    turn(busy)
    assert listener.texts == []


async def test_nothing_more_is_reported_once_a_report_closed_the_socket(
    socket: UpstreamSocket, listener: Listener
) -> None:
    socket.send_text(b"a" * 1_000)
    listener.limit_bytes = 0
    socket.pause_writing()
    socket.resume_writing()
    assert not socket.is_open
    assert listener.calls == []


async def test_an_upstream_that_is_not_read_from_cannot_answer_pings(
    socket: UpstreamSocket, transport: Transport
) -> None:
    socket.ping()
    socket.pause_reading()
    for _ in range(3):
        socket.ping()
    assert len(transport.written) == PING_BYTES
    socket.resume_reading()
    socket.ping()
    assert not transport.aborted
    socket.ping()
    assert transport.aborted


async def test_a_socket_is_not_pinged_before_it_is_upgraded(
    transport: Transport, listener: Listener
) -> None:
    opening, stub = UpstreamSocket("/", [], listener, loop_budget()), cast("Any", transport)
    opening.connection_made(stub)
    opening.ping()
    opening.ping()
    assert transport.written.endswith(b"\r\n\r\n")
    assert not transport.aborted


async def test_a_closed_socket_whose_upstream_reads_nothing_ends_in_time(
    socket: UpstreamSocket, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream_socket, "UNSENT_SECONDS", 0.01)
    socket.send_text(b"a" * 1_000)
    socket.close(1000)
    assert (transport.closing, transport.aborted) == (True, False)
    await until(lambda: transport.aborted, "what was not sent is given up")


class Relay:
    """Opens sockets as soon as they are asked for: the relay, its upstream and its queue in one."""

    def __init__(self) -> None:
        self.upstream = self.openings = self
        self.transports: list[Transport] = []

    def wait(self, _owner: object, _seconds: float) -> None: ...

    def stop_waiting(self, _owner: object) -> None: ...

    def release(self, _ticket: object) -> None: ...

    def ask(self, _address: str, start: Callable[[], None]) -> object:
        start()
        return self

    def open(self, _user: str, _client: object, listener: Any, **_: object) -> UpstreamSocket:
        made, transport = UpstreamSocket("/", [], listener, loop_budget()), Transport()
        stub: Any = transport
        asyncio.get_running_loop().call_soon(made.connection_made, stub)
        self.transports.append(transport)
        return made


async def test_while_a_client_does_not_read_no_socket_that_is_opened_for_it_is_read() -> None:
    relay, owner, client = Relay(), Listener(), object()
    stubs: Any = (relay, owner, client)
    link = UpstreamLink(*stubs, limit_key="198.51.100.7")
    link.pause_reading()
    for _ in range(2):
        link.open("user", 1.0)
        await asyncio.sleep(0)
        assert not relay.transports[-1].is_reading
        link.drop()
    link.open("user", 1.0)
    await asyncio.sleep(0)
    link.resume_reading()
    assert relay.transports[-1].is_reading
    link.drop()
    link.open("user", 1.0)
    await asyncio.sleep(0)
    assert relay.transports[-1].is_reading
