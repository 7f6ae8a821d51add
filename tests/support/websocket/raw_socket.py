"""A WebSocket client under full control: it may also send what no client should.

It reads only on request, answers neither pings nor closes, and masks with zeros.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from shared.device.handshake import (
    Close,
    Credentials,
    connect_request,
    encode,
    read_challenge,
    read_frame,
)
from shared.device.profile import CLI
from tools.support.waiting import WAIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.device.handshake import Challenge
    from shared.device.identity import DeviceKey
    from shared.device.profile import Profile

CONTINUATION: Final = 0
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10

RSV1: Final = 0x40

_HOST: Final = "127.0.0.1"
_READ_BYTES: Final = 262_144
_NO_CODE: Final = 1005


class Frame(NamedTuple):
    """One received WebSocket frame."""

    opcode: int
    payload: bytes

    @property
    def json(self) -> Any:
        """The decoded text frame."""
        assert self.opcode == TEXT, self
        return json.loads(self.payload)

    @property
    def is_tick(self) -> bool:
        """Whether this is a tick event."""
        return self.opcode == TEXT and self.payload.startswith(b'{"type":"event","event":"tick"')

    @property
    def close(self) -> Close:
        """Code and reason of a close frame; code 1005 for an empty one."""
        assert self.opcode == CLOSE, self
        if not self.payload:
            return Close(_NO_CODE)
        return Close(int.from_bytes(self.payload[:2], "big"), self.payload[2:].decode())


class Gone(Exception):
    """The server ended the connection, cleanly or not."""


def frame_bytes(
    payload: bytes,
    opcode: int = TEXT,
    *,
    fin: bool = True,
    rsv: int = 0,
    announce: int = -1,
    key: bytes | None = bytes(4),
    length_bytes: int = 0,
) -> bytes:
    """Return a frame masked with `key`; None: not masked.

    `announce` overrides the declared length; `length_bytes` (2 or 8) its encoding, by default the
    shortest.
    """
    length = announce if announce >= 0 else len(payload)
    first = (0x80 if fin else 0) | rsv | opcode
    masked = 0 if key is None else 0x80
    if length < 126 and not length_bytes:
        head = struct.pack("!BB", first, masked | length)
    elif length < 65_536 and length_bytes != 8:
        head = struct.pack("!BBH", first, masked | 126, length)
    else:
        head = struct.pack("!BBQ", first, masked | 127, length)
    if key is None:
        return head + payload
    if any(key):
        payload = bytes(byte ^ key[at % 4] for at, byte in enumerate(payload))
    return head + key + payload


def upgrade_bytes(port: int, *, path: str = "/", headers: Sequence[tuple[str, str]] = ()) -> bytes:
    """Return a request for a WebSocket."""
    own = [("Host", f"{_HOST}:{port}")] if "Host" not in dict(headers) else []
    lines = [
        f"GET {path} HTTP/1.1",
        *(f"{name}: {value}" for name, value in (*own, *headers)),
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
    ]
    return "\r\n".join([*lines, "", ""]).encode()


class RawSocket:
    """One connection. `status` is the HTTP status, 101 for a WebSocket; `body` its body."""

    def __init__(self, sock: socket.socket) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self._sock = sock
        self._buffer = bytearray()
        self._challenge: Challenge | None = None

    @classmethod
    async def tcp(
        cls, port: int, *, source: str | None = None, receive_buffer: int | None = None
    ) -> Self:
        """Connect without sending anything; `source` is the local address."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source is not None:
            sock.bind((source, 0))
        raw = cls(sock)
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await asyncio.get_running_loop().sock_connect(sock, (_HOST, port))
        except BaseException:
            sock.close()
            raise
        return raw

    @classmethod
    async def open(
        cls,
        port: int,
        *,
        path: str = "/",
        headers: Sequence[tuple[str, str]] = (),
        source: str | None = None,
        receive_buffer: int | None = None,
    ) -> Self:
        """Connect and request a WebSocket; `status` has the result."""
        raw = await cls.tcp(port, source=source, receive_buffer=receive_buffer)
        try:
            await raw.upgrade(port, path=path, headers=headers)
        except BaseException:
            raw.hang_up()
            raise
        return raw

    async def upgrade(
        self, port: int, *, path: str = "/", headers: Sequence[tuple[str, str]] = ()
    ) -> None:
        """Request a WebSocket."""
        await self.send_bytes(upgrade_bytes(port, path=path, headers=headers))
        await self.upgraded()

    async def upgraded(self, *, with_body: bool = True) -> None:
        """Read the answer to an upgrade; `with_body`: a refusal has a body."""
        while b"\r\n\r\n" not in self._buffer:
            await self._more()
        head, _, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        self._buffer = bytearray(rest)
        status_line, *fields = head.decode().split("\r\n")
        self.status = int(status_line.split()[1])
        self.headers = {
            name.lower(): value.strip()
            for name, _, value in (field.partition(":") for field in fields)
        }
        if self.status != 101 and with_body:
            length = int(self.headers["content-length"])
            while len(self._buffer) < length:
                await self._more()
            self.body = bytes(self._buffer[:length])

    # Sending.

    async def send(
        self, payload: bytes, opcode: int = TEXT, *, fin: bool = True, rsv: int = 0
    ) -> None:
        """Send one frame."""
        await self.send_bytes(frame_bytes(payload, opcode, fin=fin, rsv=rsv))

    async def send_json(self, value: object) -> None:
        """Send a text frame."""
        await self.send(json.dumps(value).encode())

    async def send_close(self, code: int = 1000) -> None:
        """Send a close frame."""
        await self.send(code.to_bytes(2, "big"), CLOSE)

    async def send_bytes(self, data: bytes) -> None:
        """Send raw bytes; raises Gone."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await asyncio.get_running_loop().sock_sendall(self._sock, data)
        except (ConnectionError, BrokenPipeError) as error:
            raise Gone(type(error).__name__) from error

    # Reading.

    async def receive(self) -> Frame:
        """Return the next frame; raises Gone."""
        while (frame := self._next()) is None:
            await self._more()
        return frame

    async def receive_text(self) -> Any:
        """Return the next text frame's content, skipping pings; a close frame is a failure."""
        while (frame := await self.receive()).opcode in {PING, PONG}:
            pass
        return frame.json

    async def closed(self) -> Close:
        """Return the close frame, which must be next except for pings and ticks."""
        while (frame := await self.receive()).opcode in {PING, PONG} or frame.is_tick:
            pass
        return frame.close

    async def rest(self) -> list[Frame]:
        """Return all frames until the server ends the connection."""
        frames: list[Frame] = []
        try:
            while True:
                frames.append(await self.receive())
        except Gone:
            return frames

    async def read_to_end(self) -> bytes:
        """Return all bytes until the server ends the connection."""
        try:
            while True:
                await self._more()
        except Gone:
            return bytes(self._buffer)

    # The handshake.

    async def challenge(self) -> str:
        """Read the challenge and return its nonce."""
        self._challenge = read_challenge(read_frame((await self.receive()).payload))
        return self._challenge.nonce

    def connect_frame(
        self,
        key: DeviceKey | None,
        profile: Profile = CLI,
        credentials: Credentials | None = None,
    ) -> dict[str, Any]:
        """Return the signed `connect` for the challenge that was read."""
        assert self._challenge is not None, "the challenge was not read"
        return connect_request(self._challenge, key, profile, credentials)

    async def connect(
        self,
        key: DeviceKey | None,
        profile: Profile = CLI,
        credentials: Credentials | None = None,
    ) -> Any:
        """Read the challenge, send `connect` and return the answer."""
        await self.challenge()
        await self.send(encode(self.connect_frame(key, profile, credentials)).encode())
        return await self.receive_text()

    # The end.

    def hang_up(self) -> None:
        """Close the TCP connection without a close frame."""
        self._sock.close()

    def reset(self) -> None:
        """Reset the connection (RST)."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.hang_up()

    # Inside.

    async def _more(self) -> None:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                data = await asyncio.get_running_loop().sock_recv(self._sock, _READ_BYTES)
        except ConnectionError as error:
            raise Gone(type(error).__name__) from error
        if not data:
            raise Gone("end of stream")
        self._buffer += data

    def _next(self) -> Frame | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        length, start = buffer[1] & 0x7F, 2
        if length == 126:
            length, start = int.from_bytes(buffer[2:4], "big"), 4
        elif length == 127:
            length, start = int.from_bytes(buffer[2:10], "big"), 10
        if len(buffer) < start + length:
            return None
        assert buffer[0] & 0x80, "servers never split"
        assert not buffer[1] & 0x80, "servers never mask"
        frame = Frame(buffer[0] & 0x0F, bytes(buffer[start : start + length]))
        del buffer[: start + length]
        return frame
