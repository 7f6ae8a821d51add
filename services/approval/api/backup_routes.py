"""`GET /v1/backup`: streams a backup while it is read from Redis."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final

import structlog
from aiohttp import web

from services.approval import log_events
from services.approval.backup.format import MEDIA_TYPE
from services.approval.domain.errors import NotAllowed, RegistryError
from services.approval.problems import BACKUPS, RETRY_AFTER_SECONDS, ProblemError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from services.approval.backup.service import BackupService
    from services.approval.domain.authorization import Caller

BACKUPS_LIMIT: Final = 2
"""Max. concurrent backups per replica, which also has to admit devices."""
WRITE_SECONDS: Final = 10.0
"""A client that reads nothing for this long is disconnected."""
CHECK_SECONDS: Final = 1.0
"""How often the caller's token is checked during a backup."""
HEADERS: Final = {
    "Content-Type": MEDIA_TYPE,
    "Content-Disposition": 'attachment; filename="latchkey-backup.jsonl"',
}


class BackupViews:
    """Serves the backups of one replica."""

    def __init__(self, backups: BackupService) -> None:
        self._backups = backups
        self._serving = 0

    async def serve(
        self, request: web.Request, caller: Caller, may_read: Callable[[], Awaitable[bool]]
    ) -> web.StreamResponse:
        """Send a backup, or abort: a backup without its last line is invalid.

        `may_read` is checked every CHECK_SECONDS; a caller that may not read any more is cut off.
        """
        if self._serving >= BACKUPS_LIMIT:
            raise ProblemError(
                BACKUPS,
                "Wait until one has finished, or use another replica.",
                {"Retry-After": str(RETRY_AFTER_SECONDS)},
            )
        self._serving += 1
        try:
            async with contextlib.aclosing(self._backups.backup(caller)) as lines:
                first = await anext(lines)  # if this fails, no response has been started
                response = web.StreamResponse(headers=HEADERS)
                await response.prepare(request)
                if request.method != "HEAD":
                    await _send(request, response, first, _while_allowed(lines, may_read))
        finally:
            self._serving -= 1
        return response


async def _while_allowed(
    lines: AsyncIterator[bytes], may_read: Callable[[], Awaitable[bool]]
) -> AsyncIterator[bytes]:
    """Yield the lines as long as the caller's token is valid; raises NotAllowed."""
    checked_at = time.monotonic()
    async for data in lines:
        if time.monotonic() - checked_at >= CHECK_SECONDS:
            if not await may_read():
                message = "the operator was revoked"
                raise NotAllowed(message)
            checked_at = time.monotonic()
        yield data


async def _send(
    request: web.Request, response: web.StreamResponse, data: bytes, lines: AsyncIterator[bytes]
) -> None:
    try:
        while True:
            if data:
                async with asyncio.timeout(WRITE_SECONDS):
                    await response.write(data)
            try:
                data = await anext(lines)
            except StopAsyncIteration:
                return
    except (RegistryError, ConnectionError, TimeoutError) as error:
        structlog.get_logger("approval").warning(
            log_events.BACKUP_BROKEN_OFF.name, error=str(error) or "the client stopped reading"
        )
        if request.transport is not None:
            request.transport.abort()
