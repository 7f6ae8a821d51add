"""Checks in one task whether the upstream answers and is configured correctly."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import aiohttp
import msgspec
import structlog

from services.gateway import log_events
from shared.observability.health import Health
from shared.rpc.reports import UpstreamState
from shared.upstream import CLOCK, NO_OPENCLAW, PREAUTH_LIMIT, UNREACHABLE

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator

    from aiohttp import web

    from services.gateway.relay.upstream.examiner import Examiner
    from services.gateway.relay.upstream.upstream import Upstream
    from shared.clock import Clock

PROBE_SECONDS: Final = 5.0
"""How often it is asked whether it answers."""
ANSWER_SECONDS: Final = 3.0
"""How long it may take to answer."""
EXAMINE_SECONDS: Final = 30.0
"""How often its configuration is examined, when all is well; with a problem at every probe."""
CROWDED_SECONDS: Final = 600.0
"""How long a refusal of sockets because of the upstream's limit is reported."""
_OK: Final = 200
_HEALTH_LIMIT_BYTES: Final = 64 * 1024


class Status:
    """Probes the upstream and keeps the result."""

    def __init__(self, upstream: Upstream, examiner: Examiner, clock: Clock) -> None:
        self._upstream = upstream
        self._examiner = examiner
        self._clock = clock
        self._log = structlog.get_logger("gateway")
        self._problems: list[str] = []
        self._examined_at: float | None = None

    @property
    def problems(self) -> list[str]:
        """The problems, as codes of shared.upstream.PROBLEMS."""
        found = [UNREACHABLE] if self._upstream.trouble and not self._problems else []
        found += self._problems
        if self._upstream.clock_trouble and not self._upstream.trouble:
            found.append(CLOCK)
        crowded_at = self._upstream.crowded_at
        crowded = crowded_at is not None and self._clock.monotonic() - crowded_at < CROWDED_SECONDS
        if crowded and PREAUTH_LIMIT not in found:
            found.append(PREAUTH_LIMIT)
        return found

    def state(self) -> UpstreamState:
        """Return what the gateway's heartbeats report about the upstream."""
        upstream = self._upstream
        return UpstreamState(
            reachable=not upstream.trouble,
            version=upstream.version,
            reason=upstream.trouble or upstream.clock_trouble,
            down_s=int(upstream.down_seconds),
            problems=self.problems,
        )

    def health(self) -> Health:
        """Return the health of this dependency: problems, since when, and the release."""
        upstream = self._upstream
        if upstream.trouble:
            since = int(upstream.down_seconds)
            was = f", before that it was OpenClaw {upstream.version}" if upstream.version else ""
            return Health(ok=False, reason=f"{upstream.trouble}, for {since} s{was}", needed=False)
        version = f"OpenClaw {upstream.version}" if upstream.version else "it answers"
        if upstream.clock_trouble:
            version = f"{version}; {upstream.clock_trouble}"
        return Health(ok=True, reason=version, warnings=tuple(self.problems), needed=False)

    async def run(self, _app: web.Application) -> AsyncIterator[None]:
        """Probe while the application runs."""
        tls: ssl.SSLContext | bool = self._upstream.tls or True
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as session:
            probing = asyncio.create_task(self._probe_regularly(session), name="upstream")
            yield
            probing.cancel()
            await asyncio.gather(probing, return_exceptions=True)

    async def _probe_regularly(self, session: aiohttp.ClientSession) -> None:
        while True:
            try:
                await self.probe(session)
            except Exception:  # noqa: BLE001 (whatever it was, the next probe comes)
                self._log.exception("probe failed")
            await asyncio.sleep(PROBE_SECONDS)

    async def probe(self, session: aiohttp.ClientSession) -> None:
        """Check once whether it answers, and examine its configuration if due."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                healthy = await self._is_healthy(session)
        except aiohttp.ClientConnectorError as error:
            self._upstream.failed_with(error)
            self._found([])
            return
        except (aiohttp.ClientError, OSError, ValueError) as error:
            self._upstream.failed(
                "no answer in time" if isinstance(error, TimeoutError) else "no sound answer"
            )
            self._found([])
            return
        if not healthy:
            self._upstream.failed("what answers there is not OpenClaw")
            self._found([NO_OPENCLAW])
            return
        self._upstream.reached()
        await self._examine_if_due(session)

    async def _is_healthy(self, session: aiohttp.ClientSession) -> bool:
        origin = self._upstream.address.http_origin
        async with session.get(f"{origin}/health", allow_redirects=False) as answer:
            body = await answer.content.read(_HEALTH_LIMIT_BYTES)
            if answer.status != _OK:
                return False
            said = msgspec.json.decode(body)
            return isinstance(said, dict) and said.get("ok") is True

    async def _examine_if_due(self, session: aiohttp.ClientSession) -> None:
        now = self._clock.monotonic()
        if (
            self._examined_at is not None
            and not self._problems
            and not self._upstream.clock_trouble
            and now - self._examined_at < EXAMINE_SECONDS
        ):
            return
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                examined = await self._examiner.examine(session)
        except (aiohttp.ClientError, OSError):
            return  # the next probe says more
        self._examined_at = now
        if examined.version:
            self._upstream.reached(examined.version)
        self._found(examined.problems)

    def _found(self, problems: list[str]) -> None:
        """Keep the problems, and log them if they changed."""
        if problems != self._problems and problems:
            self._log.warning(log_events.UPSTREAM_PROBLEMS.name, problems=problems)
        self._problems = problems
        if not problems and self._upstream.trouble:
            self._examined_at = None
