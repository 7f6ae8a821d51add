"""Clients that hold the gateway token and present no device, on raw sockets: never a fast reader."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import TYPE_CHECKING, Final

from shared.device.handshake import Challenge, Credentials, connect_request, encode
from shared.device.profile import CLI
from tools.load.client.verdicts import Broken, read_answer, read_challenge
from tools.load.client.wire import (
    CLOSE,
    HEAD_END,
    TEXT,
    BrokenFrame,
    read_frame,
    text_frame,
    upgrade_problem,
    upgrade_request,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from tools.drills.attacks.attack import Target

HOST: Final = "127.0.0.1"
ADDRESSES: Final = tuple(f"127.66.0.{number}" for number in range(1, 9))
"""The addresses from which attackers connect, unless the attack uses a single one."""
ENTER_SECONDS: Final = 20.0
PAUSE_SECONDS: Final = 0.5
"""Between two attempts of one attacker."""
READ_BYTES: Final = 65_536
_MASKED_EIGHT_BYTES: Final = 0xFF
_FIN_TEXT: Final = 0x80 | TEXT
_NO_MASK: Final = b"\0\0\0\0"


class TurnedAway(Exception):
    """The gateway does not admit this client."""


def long_frame_head(size: int) -> bytes:
    """Return the header of a masked text frame of any length; the mask changes nothing."""
    return struct.pack("!BBQ", _FIN_TEXT, _MASKED_EIGHT_BYTES, size) + _NO_MASK


async def enter(target: Target, address: str, *, receive_bytes: int = 0) -> socket.socket:
    """Connect with the gateway token alone; raises TurnedAway or OSError."""
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    try:
        sock.setblocking(False)
        if receive_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        sock.bind((address, 0))
        async with asyncio.timeout(ENTER_SECONDS):
            await loop.sock_connect(sock, (HOST, target.gateway_port))
            await loop.sock_sendall(sock, upgrade_request(f"{HOST}:{target.gateway_port}", "/"))
            await _handshake(loop, sock, target.gateway_token)
    except BaseException as error:
        sock.close()
        if isinstance(error, (TimeoutError, Broken, BrokenFrame)):
            raise TurnedAway(str(error)) from error
        raise
    return sock


async def read_all(sock: socket.socket) -> None:
    """Read and discard until the gateway closes. Raises OSError."""
    loop = asyncio.get_running_loop()
    while await loop.sock_recv(sock, READ_BYTES):
        pass


async def repeat(
    count: int,
    target: Target,
    once: Callable[[socket.socket], Awaitable[object]],
    *,
    addresses: Sequence[str] = ADDRESSES,
    receive_bytes: int = 0,
    pause_seconds: float = PAUSE_SECONDS,
) -> None:
    """Keep this number of clients attacking; each enters again when it is closed."""

    async def attacker(address: str) -> None:
        while True:
            with contextlib.suppress(OSError, TurnedAway):
                sock = await enter(target, address, receive_bytes=receive_bytes)
                with contextlib.closing(sock):
                    await once(sock)
            await asyncio.sleep(pause_seconds)

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(attacker(addresses[number % len(addresses)]))


async def _handshake(loop: asyncio.AbstractEventLoop, sock: socket.socket, token: str) -> None:
    data = b""
    while HEAD_END not in data:
        data += await _received(loop, sock)
    at = data.index(HEAD_END) + len(HEAD_END)
    if problem := upgrade_problem(data[:at], data[at:]):
        raise TurnedAway(problem)
    text, data = await _next_text(loop, sock, data[at:])
    challenge = read_challenge(text)
    request = connect_request(
        Challenge(challenge.nonce, challenge.ts), None, CLI, Credentials(token=token), "1"
    )
    await loop.sock_sendall(sock, text_frame(encode(request).encode()))
    answer = None
    while answer is None:
        text, data = await _next_text(loop, sock, data)
        answer = read_answer(text)
    if not answer.ok:
        raise TurnedAway(answer.error.code if answer.error else "refused")


async def _next_text(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, data: bytes
) -> tuple[bytes, bytes]:
    """Return the next text, and what was received after it."""
    at = 0
    while True:
        frame = read_frame(data, at)
        if frame is None:
            data += await _received(loop, sock)
            continue
        at = frame.end
        if frame.opcode == CLOSE:
            raise TurnedAway("closed")
        if frame.opcode == TEXT:
            return frame.payload, data[at:]


async def _received(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> bytes:
    received = await loop.sock_recv(sock, READ_BYTES)
    if not received:
        raise TurnedAway("closed")
    return received
