"""`GET /v1/backup`: a backup on its way out, read while it is taken."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import structlog
from aiohttp import web

from services.approval import log_events
from services.approval.backup.format import MEDIA_TYPE
from services.approval.domain.authorization import OPERATOR
from services.approval.domain.errors import RegistryError
from services.approval.problems import BACKUPS, RETRY_AFTER_SECONDS, ProblemError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.approval.backup.service import BackupService

BACKUPS_LIMIT: Final = 2
"""Backups that one replica reads at once; it also lets devices in."""
WRITE_SECONDS: Final = 10.0
"""How long whoever asked may take nothing before it is dropped."""
HEADERS: Final = {
    "Content-Type": MEDIA_TYPE,
    "Content-Disposition": 'attachment; filename="latchkey-backup.jsonl"',
}


class BackupViews:
    """Serves the backups of one replica."""

    def __init__(self, backups: BackupService) -> None:
        self._backups = backups
        self._serving = 0

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer with a whole backup, or break off: what has no end is none."""
        if self._serving >= BACKUPS_LIMIT:
            raise ProblemError(
                BACKUPS,
                "Wait until one is done, or ask another replica.",
                {"Retry-After": str(RETRY_AFTER_SECONDS)},
            )
        self._serving += 1
        try:
            async with contextlib.aclosing(self._backups.backup(OPERATOR)) as lines:
                first = await anext(lines)  # nothing has been said yet if this fails
                response = web.StreamResponse(headers=HEADERS)
                await response.prepare(request)
                if request.method != "HEAD":
                    await _tell(request, response, first, lines)
        finally:
            self._serving -= 1
        return response


async def _tell(
    request: web.Request, response: web.StreamResponse, said: bytes, lines: AsyncIterator[bytes]
) -> None:
    try:
        while True:
            if said:
                async with asyncio.timeout(WRITE_SECONDS):
                    await response.write(said)
            try:
                said = await anext(lines)
            except StopAsyncIteration:
                return
    except (RegistryError, ConnectionError, TimeoutError) as error:
        structlog.get_logger("approval").warning(
            log_events.BACKUP_BROKEN_OFF.name, error=str(error) or "nobody takes it"
        )
        if request.transport is not None:
            request.transport.abort()
