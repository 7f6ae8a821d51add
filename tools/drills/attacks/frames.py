"""Attacks with frames: unfinished, never answered, long and malformed, tiny and malformed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from shared.protocol.limits import FRAME_LIMIT_BYTES
from tools.drills.attacks.attack import Attack
from tools.drills.attacks.strangers import long_frame_head, read_all, repeat
from tools.load.client.wire import text_frame

if TYPE_CHECKING:
    import socket

    from tools.drills.attacks.attack import Target

UNFINISHED_SOCKETS: Final = 120
UNREAD_SOCKETS: Final = 15
UNREAD_ID_BYTES: Final = 1 << 20
UNREAD_RECEIVE_BYTES: Final = 4096
MALFORMED_SOCKETS: Final = 3
MALFORMED_PAUSE_SECONDS: Final = 5.0
TINY_SOCKETS: Final = 150
TINY_FRAMES_AT_ONCE: Final = 2_000
MALFORMED_HEAD: Final = b'{"type":"req","id":"","x":['


async def unfinished_frames(target: Target) -> None:
    """Send 25 MiB but for the last byte, and wait."""
    size = target.count(FRAME_LIMIT_BYTES)
    frame = memoryview(long_frame_head(size) + bytes(size - 1))

    async def once(sock: socket.socket) -> None:
        await asyncio.get_running_loop().sock_sendall(sock, frame)
        await read_all(sock)

    await repeat(target.count(UNFINISHED_SOCKETS), target, once)


async def unread_answers(target: Target) -> None:
    """Send requests whose answers repeat an id of 1 MiB, and never read."""
    request = b'{"type":"req","id":"' + b"i" * UNREAD_ID_BYTES + b'","method":"health"}'
    frame = memoryview(long_frame_head(len(request)) + request)

    async def once(sock: socket.socket) -> None:
        while True:
            await asyncio.get_running_loop().sock_sendall(sock, frame)

    count = target.count(UNREAD_SOCKETS)
    await repeat(count, target, once, receive_bytes=UNREAD_RECEIVE_BYTES)


async def long_malformed_frames(target: Target) -> None:
    """Send 25 MiB of empty arrays that never end, again every 5 s."""
    size = target.count(FRAME_LIMIT_BYTES)
    payload = (MALFORMED_HEAD + b"[]," * (size // 3))[:size]
    frame = memoryview(long_frame_head(size) + payload)

    async def once(sock: socket.socket) -> None:
        await asyncio.get_running_loop().sock_sendall(sock, frame)
        await asyncio.sleep(MALFORMED_PAUSE_SECONDS)

    await repeat(MALFORMED_SOCKETS, target, once, pause_seconds=0.1)


async def tiny_malformed_frames(target: Target) -> None:
    """Send frames of 7 bytes that are no JSON, as fast as they are accepted."""
    frames = memoryview(text_frame(b"x") * TINY_FRAMES_AT_ONCE)

    async def once(sock: socket.socket) -> None:
        async def send() -> None:
            while True:
                await asyncio.get_running_loop().sock_sendall(sock, frames)

        # Answers are read, so that the gateway goes on.
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(send())
            await read_all(sock)
            sending.cancel()

    async def tolerant(sock: socket.socket) -> None:
        try:
            await once(sock)
        except* OSError as group:
            raise ConnectionResetError from group

    await repeat(target.count(TINY_SOCKETS), target, tolerant)


ATTACKS: Final = (
    Attack(name="unfinished frames of 25 MiB", do=unfinished_frames),
    Attack(name="answers of 1 MiB never read", do=unread_answers),
    Attack(name="malformed frames of 25 MiB", do=long_malformed_frames),
    Attack(name="malformed frames of 7 bytes", do=tiny_malformed_frames),
)
