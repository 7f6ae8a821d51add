"""Views for operators' tools: liveness, readiness and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import msgspec
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from shared.server.http_protocol import name_server

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from shared.clock import Clock
    from shared.observability.health import Readiness

_encode: Final = msgspec.json.Encoder().encode
_LIVE: Final = _encode({"ok": True, "status": "live"})
METRICS_RENDERINGS: Final = 5
"""Scrapes in a row that each render the metrics anew; later ones share a rendering."""
METRICS_SECONDS: Final = 1.0
"""The metrics are rendered at most once in this time, except for those first scrapes."""


class LoopDelay(Protocol):
    """Reports the delay of the event loop."""

    @property
    def milliseconds(self) -> float:
        """How late the last periodic task of the loop was."""
        ...


class MetricsText:
    """The metrics as text. Rendering takes milliseconds, so a flood of scrapes shares it."""

    def __init__(self, registry: CollectorRegistry, clock: Clock) -> None:
        self._registry = registry
        self._clock = clock
        self._text = b""
        self._left = float(METRICS_RENDERINGS)
        self._counted_at = clock.monotonic()

    def read(self) -> bytes:
        """Return the metrics, at most METRICS_SECONDS old."""
        now = self._clock.monotonic()
        more = (now - self._counted_at) / METRICS_SECONDS
        self._left = min(METRICS_RENDERINGS, self._left + more)
        self._counted_at = now
        if self._left >= 1 or not self._text:
            self._left -= 1
            self._text = generate_latest(self._registry)
        return self._text


class OpsViews:
    """The operations views of both services.

    With a separate ops port, the public `/readyz` reports only the overall result, and `/metrics`
    is not public.
    """

    def __init__(
        self,
        *,
        readiness: Readiness,
        registry: CollectorRegistry,
        clock: Clock,
        loop_delay: LoopDelay,
        own_port: bool,
    ) -> None:
        self._readiness = readiness
        self._metrics = MetricsText(registry, clock)
        self._clock = clock
        self._loop_delay = loop_delay
        self._started = clock.monotonic()
        self._own_port = own_port

    def live(self) -> tuple[int, bytes]:
        """Return HTTP status and body of `/livez`."""
        return 200, _LIVE

    def ready(self, *, detailed: bool) -> tuple[int, bytes]:
        """Return HTTP status and body of `/readyz`."""
        status, body = self._readiness.report(
            uptime_ms=int((self._clock.monotonic() - self._started) * 1000),
            loop_delay_ms=self._loop_delay.milliseconds,
            detailed=detailed,
        )
        return status, _encode(body)

    def public_ready(self) -> tuple[int, bytes]:
        """Return HTTP status and body of the public `/readyz`."""
        return self.ready(detailed=not self._own_port)

    async def livez(self, _request: web.Request) -> web.Response:
        """Report that the process is running."""
        return _response(*self.live())

    async def public_readyz(self, _request: web.Request) -> web.Response:
        """Report readiness, with reasons unless there is an ops port."""
        return _response(*self.public_ready())

    async def ops_readyz(self, _request: web.Request) -> web.Response:
        """Report readiness with reasons."""
        return _response(*self.ready(detailed=True))

    async def metrics(self, _request: web.Request) -> web.Response:
        """Return all metrics for Prometheus."""
        return web.Response(
            body=self._metrics.read(), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    def ops_app(self) -> web.Application:
        """Create the application for the ops port."""
        app = web.Application()
        app.on_response_prepare.append(name_server)
        app.router.add_get("/livez", self.livez)
        app.router.add_get("/readyz", self.ops_readyz)
        app.router.add_get("/metrics", self.metrics)
        return app


def json_response(body: object, *, status: int = 200) -> web.Response:
    """Return JSON that must not be cached."""
    return _response(status, _encode(body))


def _response(status: int, body: bytes) -> web.Response:
    return web.Response(
        body=body,
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )
