"""A transparent proxy in front of the gateways that records what clients are sent."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tools.interop.frames import MessageReader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

HOST: Final = "127.0.0.1"
CHUNK_BYTES: Final = 1 << 16

Frame = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Heard:
    """A frame sent to a client, and the method that it answers (empty for an event)."""

    frame: Frame
    method: str


@dataclass(slots=True)
class _Conversation:
    heard: list[Heard]
    asked: dict[str, str] = field(default_factory=dict)

    def client_said(self, message: bytes) -> None:
        request = json.loads(message)
        self.asked[request["id"]] = request["method"]

    def gateway_said(self, message: bytes) -> None:
        frame = json.loads(message)
        self.heard.append(Heard(frame, self.asked.get(frame.get("id", ""), "")))


@asynccontextmanager
async def wiretap(port: int, heard: list[Heard]) -> AsyncIterator[int]:
    """Listen on a free loopback port and forward to `port`; yields the port to connect to."""
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (task := asyncio.current_task()) is not None:
            serving.add(task)
            task.add_done_callback(serving.discard)
        try:
            onward_reader, onward_writer = await asyncio.open_connection(HOST, port)
        except OSError:
            writer.close()
            return
        talk = _Conversation(heard)
        try:
            await asyncio.gather(
                _pass_on(reader, onward_writer, talk.client_said),
                _pass_on(onward_reader, writer, talk.gateway_said),
            )
        finally:
            onward_writer.close()
            writer.close()

    server = await asyncio.start_server(serve, HOST, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


async def _pass_on(
    source: asyncio.StreamReader,
    target: asyncio.StreamWriter,
    take: Callable[[bytes], None],
) -> None:
    """Forward until the source ends, including the end."""
    messages = MessageReader()
    with suppress(ConnectionError):
        while data := await source.read(CHUNK_BYTES):
            target.write(data)
            for message in messages.feed(data):
                take(message)
            await target.drain()
    with suppress(OSError, RuntimeError):
        target.write_eof()
