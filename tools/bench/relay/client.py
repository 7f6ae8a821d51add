"""Clients of the relay benchmark: connect as paired devices, then play ping-pong with frames."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, cast

from services.gateway.websocket.frames import frame_header
from tools.load.client.devices import LoadDevice
from tools.load.client.dialer import Dialer, loopback_sources
from tools.load.client.verdicts import Broken, read_answer, read_challenge
from tools.load.client.wire import (
    CLOSE,
    HEAD_END,
    PING,
    PONG,
    TEXT,
    BrokenFrame,
    close_frame,
    control_frame,
    read_frame,
    upgrade_problem,
    upgrade_request,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tools.bench.relay.proxies import Relaying
    from tools.load.client.session import Session

SOURCES: Final = 16
JOIN_SECONDS: Final = 60.0
AT_ONCE: Final = 8
"""Connections that are being opened at the same time."""
RETRY_SECONDS: Final = 0.1
_MASK: Final = b"\0\0\0\0"
_PING: Final = frame_header(PING, 0)
_NORMAL: Final = close_frame(1000)


class NotJoined(Exception):
    """A client could not connect through a proxy."""


def request_of(size: int) -> bytes:
    """Return a request frame, masked, whose payload has this many bytes."""
    head, end = b'{"type":"req","id":"1","method":"chat.send","params":{"text":"', b'"}}'
    payload = head + b"x" * (size - len(head) - len(end)) + end
    return frame_header(TEXT, len(payload), masked=True) + _MASK + payload


class Client(asyncio.Protocol):
    """One connection. Once joined it counts what arrives, frame by frame or in bytes."""

    def __init__(self, device: LoadDevice, upgrade: bytes) -> None:
        self._device = device
        self._upgrade = upgrade
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._stage = 0
        self._reply_bytes = 0
        self._request = b""
        self._left = self._counts = False
        self.bytes_received = 0
        self._sent_at = 0.0
        self.joined: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Empty once it is connected, else why it is not."""
        self.times: list[float] | None = None
        """Round trips while they are measured, seconds."""
        self.echoes = 0
        self.full = False
        """Whether the connection takes no more for now."""
        self.wrong = ""
        # What load sessions have, for the dialer.
        self.opening: asyncio.Task[object] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._upgrade)

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False

    def not_opened(self, problem: str) -> None:
        self._fail(problem)

    def connection_lost(self, _error: Exception | None) -> None:
        self._fail("closed")
        if not self._left:
            self.wrong = self.wrong or "a connection was lost"

    def data_received(self, data: bytes) -> None:
        if self._counts:
            self.bytes_received += len(data)
            return
        if not self._reply_bytes:
            self._buffer += data
            self._handshake()
            return
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._reply_bytes:
                return
            data, self._buffer = self._buffer, b""
        elif len(data) < self._reply_bytes:
            self._buffer = bytearray(data)  # type: ignore[assignment]  # grows in place
            return
        if len(data) != self._reply_bytes:
            data = self._without_ping(data)
        if len(data) != self._reply_bytes:
            self.wrong = f"{len(data)} bytes came instead of {self._reply_bytes}"
            self.stop()
            return
        now = time.perf_counter()
        if self.times is not None:
            self.times.append(now - self._sent_at)
        self.echoes += 1
        if self._request:
            self._sent_at = time.perf_counter()
            self._transport.write(self._request)  # type: ignore[union-attr]  # it is open

    def _without_ping(self, data: bytes) -> bytes:
        """Answer the gateway's ping before or behind an echo, and return the echo."""
        if not data.startswith(_PING) and not data.endswith(_PING):
            return data
        self.write(control_frame(PONG, b""))
        return data.removeprefix(_PING) if data.startswith(_PING) else data.removesuffix(_PING)

    def start(self, request: bytes) -> None:
        """Send a request, and another one whenever the echo is back."""
        head = 6 if len(request) < 132 else 8 if len(request) < 65_544 else 14
        payload = len(request) - head
        self._reply_bytes = len(frame_header(TEXT, payload)) + payload
        self._request = request
        self._sent_at = time.perf_counter()
        self.write(request)

    def stop(self) -> None:
        """Stop sending."""
        self._request = b""

    def write(self, data: bytes) -> None:
        """Send bytes."""
        if self._transport is not None:
            self._transport.write(data)

    def count_bytes(self) -> None:
        """From now on, only count the bytes received."""
        self._counts = True
        if self._transport is not None:
            self._transport.resume_reading()

    def pause_reading(self) -> None:
        """Stop reading."""
        if self._transport is not None:
            self._transport.pause_reading()

    def leave(self) -> None:
        """Close the connection."""
        self._left = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(_NORMAL)
            self._transport.close()

    def abort(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def _handshake(self) -> None:
        try:
            if self._stage == 0:
                head, end, rest = self._buffer.partition(HEAD_END)
                if not end:
                    return
                if problem := upgrade_problem(head + end, rest):
                    self._fail(problem)
                    return
                self._buffer, self._stage = rest, 1
            at = 0
            while (frame := read_frame(self._buffer, at)) is not None:
                at = frame.end
                self._take(frame.opcode, frame.payload)
            self._buffer = self._buffer[at:]
        except (Broken, BrokenFrame) as error:
            self._fail(str(error))

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self.write(control_frame(PONG, payload))
        elif opcode == CLOSE:
            self._fail("closed")
        elif self._stage == 1:
            asked = read_challenge(payload)
            self._stage = 2
            self.write(self._device.connect(asked.nonce, asked.ts or time.time_ns() // 1_000_000))
        elif not self.joined.done() and (answer := read_answer(payload)) is not None:
            if answer.ok:
                self.joined.set_result("")
            else:
                self._fail(f"{answer}")

    def _fail(self, why: str) -> None:
        if not self.joined.done():
            self.joined.set_result(why)


async def join(relaying: Relaying, count: int) -> list[Client]:
    """Connect this many clients, and retry as long as the gateway asks for it."""
    dialler = Dialer(relaying.target, loopback_sources(SOURCES))
    await dialler.prepare()
    upgrade = upgrade_request(relaying.target.host, relaying.target.path)
    devices = [
        LoadDevice(item, relaying.gateway_token, index)
        for index, item in enumerate(relaying.identities)
    ]
    turns = asyncio.Semaphore(AT_ONCE)

    async def enter(number: int) -> Client:
        async with turns:
            until = time.monotonic() + JOIN_SECONDS
            while True:
                client = Client(devices[number % len(devices)], upgrade)
                dialler.dial(cast("Session", client))
                why = await client.joined
                if not why:
                    return client
                client.leave()
                if time.monotonic() > until:
                    raise NotJoined(f"{relaying.name}: {why}")
                await asyncio.sleep(RETRY_SECONDS)

    return list(await asyncio.gather(*(enter(number) for number in range(count))))


def left(clients: Sequence[Client]) -> str:
    """Close all clients; return the problem of the first one that had any."""
    wrong = next((client.wrong for client in clients if client.wrong), "")
    for client in clients:
        client.leave()
    return wrong
