"""An HTTP client that sends a request target verbatim and returns answers unprocessed."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tools.support.waiting import WAIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping

_HOST: Final = "127.0.0.1"


class Reply(NamedTuple):
    """One answer; header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The decoded body."""
        return json.loads(self.body)


async def ask(
    port: int, target: str, method: str = "GET", headers: Mapping[str, str] | None = None
) -> Reply:
    """Send one request on its own connection and return the whole answer."""
    async with asyncio.timeout(WAIT_SECONDS):
        reader, writer = await asyncio.open_connection(_HOST, port)
        lines = [
            f"{method} {target} HTTP/1.1",
            f"Host: {_HOST}:{port}",
            "Connection: close",
            *(f"{name}: {value}" for name, value in (headers or {}).items()),
        ]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        try:
            whole = await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()
    head, _, body = whole.partition(b"\r\n\r\n")
    status_line, *fields = head.decode("latin-1").split("\r\n")
    pairs = (field.partition(":") for field in fields)
    named = {name.lower(): value.strip() for name, _, value in pairs}
    return Reply(int(status_line.split()[1]), named, body)
