"""The upstream of the relay benchmark: challenge, hello-ok, then an echo by counting bytes.

The first frame after hello-ok sets the mode. All later frames of a connection are as long as that
one, so the echo counts bytes instead of parsing frames, which keeps it cheap beside the proxies
that it measures. `python -m tools.bench.relay.upstream PORT`
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import sys
import time
from typing import Final, cast

import uvloop

from services.gateway.websocket.frames import frame_header, text_frame
from tools.load.client.dialer import raise_descriptor_limit
from tools.load.client.wire import CLOSE, HEAD_END, PING, PONG, TEXT

FLOOD: Final = b'{"mode":"flood"'
"""Beginning of the frame that asks for frames without end."""
DEAF: Final = b'{"mode":"deaf"'
"""Beginning of the frame after which the upstream stops reading."""
FLOOD_FRAME_BYTES: Final = 16_384
_ACCEPT: Final = b"Sec-WebSocket-Accept: "
_HEALTHY: Final = (
    b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{"ok":true}'
)
_MASK_BYTES: Final = 4
_OPCODE: Final = 0x0F
_VERSION: Final = "2026.9.6"


def challenge() -> bytes:
    """Return the challenge as a frame; its nonce may be constant, because it is not checked here."""
    now_ms = time.time_ns() // 1_000_000
    event = {
        "type": "event",
        "event": "connect.challenge",
        "payload": {"nonce": "00000000-0000-4000-8000-000000000000", "ts": now_ms},
    }
    return text_frame(json.dumps(event, separators=(",", ":")).encode())


def hello(connect: bytes) -> bytes:
    """Return the hello-ok for a `connect`, with the fields that a relay reads."""
    request = json.loads(connect)
    params = request["params"]
    payload = {
        "type": "hello-ok",
        "protocol": 4,
        "server": {"version": _VERSION, "connId": "c"},
        "features": {"methods": ["chat.send"], "events": ["chat"]},
        "snapshot": {
            "presence": [],
            "health": {},
            "stateVersion": {"presence": 0, "health": 0},
            "uptimeMs": 1,
        },
        "auth": {"role": params.get("role", "operator"), "scopes": params.get("scopes", [])},
        "policy": {"maxPayload": 26_214_400, "maxBufferedBytes": 1, "tickIntervalMs": 30_000},
    }
    response = {"type": "res", "id": request["id"], "ok": True, "payload": payload}
    return text_frame(json.dumps(response).encode())


class Frame:
    """A masked frame at the beginning of a buffer."""

    def __init__(self, opcode: int, payload: bytes, wire_bytes: int) -> None:
        self.opcode = opcode
        self.payload = payload
        self.wire_bytes = wire_bytes


def first_frame(data: bytes | bytearray) -> Frame | None:
    """Return the first frame; None while it is incomplete."""
    if len(data) < len(frame_header(TEXT, 0)):
        return None
    length, at = data[1] & 0x7F, 2
    if length == 126:
        length, at = int.from_bytes(data[2:4], "big"), 4
    elif length == 127:
        length, at = int.from_bytes(data[2:10], "big"), 10
    start = at + _MASK_BYTES
    if len(data) < start + length:
        return None
    mask = bytes(data[at:start])
    masked = bytes(data[start : start + length])
    key = (mask * (length // _MASK_BYTES + 1))[:length]
    payload = int.from_bytes(masked, "big") ^ int.from_bytes(key, "big")
    return Frame(data[0] & _OPCODE, payload.to_bytes(length, "big"), start + length)


class Connection(asyncio.Protocol):
    """One WebSocket."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._take = self._upgrade
        self._reply = b""
        self._frame_bytes = 0
        self._floods = self._full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._frame_bytes and not self._buffer and len(data) == self._frame_bytes:
            self._write(self._reply)  # most reads: just one frame
            return
        self._buffer += data
        self._take()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        if self._floods:
            self._flood()

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _upgrade(self) -> None:
        end = self._buffer.find(HEAD_END)
        if end < 0:
            return
        head = bytes(self._buffer[:end])
        del self._buffer[: end + len(HEAD_END)]
        lines = head.split(b"\r\n")
        keys = [
            line[18:].strip() for line in lines if line.lower().startswith(b"sec-websocket-key:")
        ]
        if not keys:  # a gateway that asks how the upstream is
            self._write(_HEALTHY)
            return
        (key,) = keys
        self._write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            + _ACCEPT
            + accept_key(key)
            + HEAD_END
            + challenge()
        )
        self._take = self._connect
        self._take()

    def _connect(self) -> None:
        frame = first_frame(self._buffer)
        if frame is None:
            return
        del self._buffer[: frame.wire_bytes]
        if frame.opcode != TEXT:
            return
        self._write(hello(frame.payload))
        self._take = self._choose
        if self._buffer:
            self._take()

    def _choose(self) -> None:
        frame = first_frame(self._buffer)
        if frame is None:
            return
        if frame.opcode in {PING, PONG, CLOSE}:
            del self._buffer[: frame.wire_bytes]
            if frame.opcode == CLOSE and self._transport is not None:
                self._transport.close()
            elif frame.opcode == PING:
                self._write(frame_header(PONG, len(frame.payload)) + frame.payload)
            return
        if frame.payload.startswith(DEAF):
            if self._transport is not None:
                self._transport.pause_reading()
        elif frame.payload.startswith(FLOOD):
            self._floods = True
            self._reply = text_frame(b'{"x":"' + b"x" * (FLOOD_FRAME_BYTES - 8) + b'"}')
            self._buffer.clear()
            self._flood()
        else:
            self._reply = text_frame(frame.payload)
            self._frame_bytes = frame.wire_bytes
            self._take = self._echo
            self._take()

    def _echo(self) -> None:
        """Send a reply per frame; pings and pongs, which are empty, lie between frames."""
        while self._buffer:
            if self._buffer[0] & _OPCODE in {PING, PONG}:
                if self._buffer[0] & _OPCODE == PING:
                    self._write(frame_header(PONG, 0))
                del self._buffer[: len(frame_header(PING, 0)) + _MASK_BYTES]
            elif len(self._buffer) >= self._frame_bytes:
                self._write(self._reply)
                del self._buffer[: self._frame_bytes]
            else:
                return

    def _flood(self) -> None:
        transport = self._transport
        while transport is not None and not self._full and not transport.is_closing():
            transport.write(self._reply)


def accept_key(key: bytes) -> bytes:
    """Return the value of Sec-WebSocket-Accept for a client's key (RFC 6455, section 4.2.2)."""
    guid = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    return base64.b64encode(hashlib.sha1(key + guid, usedforsecurity=False).digest())


async def serve(port: int) -> None:
    """Serve until cancelled."""
    raise_descriptor_limit()
    loop = asyncio.get_running_loop()
    await loop.create_server(Connection, "127.0.0.1", port, backlog=4096)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
