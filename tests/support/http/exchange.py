"""Send bytes to a server and return what it sends until it closes the connection."""

from __future__ import annotations

import asyncio
from typing import Final

from tests.support.http.plain_http import Reply
from tools.support.waiting import WAIT_SECONDS

_HOST: Final = "127.0.0.1"
_READ_BYTES: Final = 65_536


async def exchange(port: int, sent: bytes) -> list[Reply]:
    """Return the answer to these bytes: one, unless the server gives more or none.

    Reading stops when the connection ends, or after a complete answer that leaves it open.
    """
    async with asyncio.timeout(WAIT_SECONDS):
        reader, writer = await asyncio.open_connection(_HOST, port)
        try:
            writer.write(sent)
            text = b""
            while not _is_whole(text) and (data := await reader.read(_READ_BYTES)):
                text += data
        finally:
            writer.close()
    return _replies(text)


def _is_whole(message: bytes) -> bool:
    head, end, body = message.partition(b"\r\n\r\n")
    if not end:
        return False
    reply = _reply(head, body)
    stays = reply.headers.get("connection", "").lower() != "close" and b"HTTP/1.0" not in head
    if reply.status == 101 or (stays and "content-length" not in reply.headers):
        return True
    return stays and len(body) >= int(reply.headers["content-length"])


def _replies(message: bytes) -> list[Reply]:
    found = []
    while message:
        head, end, rest = message.partition(b"\r\n\r\n")
        assert end, f"no answer of HTTP/1: {message!r}"
        reply = _reply(head, rest)
        length = int(reply.headers.get("content-length", len(rest)))
        body, message = (rest, b"") if reply.status == 101 else (rest[:length], rest[length:])
        found.append(reply._replace(body=body))
    return found


def _reply(head: bytes, body: bytes) -> Reply:
    status_line, *fields = head.decode("latin-1").split("\r\n")
    version, _, rest = status_line.partition(" ")
    assert version in {"HTTP/1.0", "HTTP/1.1"}, status_line
    pairs = (field.partition(":") for field in fields)
    named = {name.lower(): value.strip() for name, _, value in pairs}
    return Reply(int(rest.split()[0]), named, body)
