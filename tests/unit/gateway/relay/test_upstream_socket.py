"""One socket to the upstream: what its listener does while it reports, pings, and its end."""

from __future__ import annotations

import base64
from hashlib import sha1
from typing import TYPE_CHECKING, Any

import pytest

from services.gateway.relay.upstream import socket as upstream_socket
from services.gateway.relay.upstream.socket import UpstreamSocket
from tools.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterable

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
PING_BYTES = 6


class Transport:
    """A transport whose peer reads nothing."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.closing = False
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.written += data

    def writelines(self, parts: Iterable[bytes]) -> None:
        self.written += b"".join(parts)

    def get_write_buffer_size(self) -> int:
        return len(self.written)

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

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

    def on_text(self, payload: bytes) -> None: ...

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
    made = listener.socket = UpstreamSocket("/", [], listener)
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


async def test_a_closed_socket_whose_upstream_reads_nothing_ends_in_time(
    socket: UpstreamSocket, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream_socket, "UNSENT_SECONDS", 0.01)
    socket.send_text(b"a" * 1_000)
    socket.close(1000)
    assert (transport.closing, transport.aborted) == (True, False)
    await until(lambda: transport.aborted, "what was not sent is given up")
