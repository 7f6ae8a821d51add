"""The upstream: its address, its state, and sockets to it."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import aiohttp
import structlog

from services.gateway import log_events
from services.gateway.relay.counts import RelayCounts
from services.gateway.relay.rules.headers import (
    forwarded_headers,
    header_names,
    identity_headers,
    scopes_header,
)
from services.gateway.relay.upstream.socket import UpstreamSocket
from shared.clock import NS_PER_MS
from shared.protocol.limits import SIGNED_AT_SKEW_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from services.gateway.relay.rules.headers import ForwardedClient
    from services.gateway.relay.upstream.socket import Listener
    from shared.clock import Clock
    from shared.server.loop_budget import LoopBudget

CONNECT_SECONDS: Final = 2.0
"""How long connecting may take: name, TCP and TLS."""
CLOCK_MARGIN_MS: Final = 1_000
"""Hysteresis: a clock that was wrong counts as right again only this far inside the limit."""
_CROWDED: Final = "the upstream answers 503"
"""How UpstreamSocket says that an upgrade was refused for there being too many."""
_DEFAULT_PORTS: Final = {"ws": 80, "wss": 443}


@dataclass(frozen=True, slots=True)
class UpstreamAddress:
    """The parts of UPSTREAM_URL."""

    host: str
    port: int
    tls: bool
    path: str
    """The path of the WebSocket, with its query."""

    @classmethod
    def parse(cls, url: str) -> UpstreamAddress:
        """Parse a valid ws:// or wss:// URL."""
        parts = urlsplit(url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        port = parts.port or _DEFAULT_PORTS[parts.scheme]
        return cls(parts.hostname or "", port, parts.scheme == "wss", path)

    @property
    def http_origin(self) -> str:
        """The address for HTTP requests, without a path."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"


class Upstream:
    """Opens sockets to the upstream and records whether it can be reached.

    An outage is logged once when it begins and once when it ends.
    """

    def __init__(
        self,
        address: UpstreamAddress,
        secrets: Iterable[str],
        clock: Clock,
        loop_budget: LoopBudget,
    ) -> None:
        self.address = address
        self._loop_budget = loop_budget
        self.names = tuple(header_names(secret) for secret in secrets)
        self._clock = clock
        self.tls: Final = ssl.create_default_context() if address.tls else None
        self._log = structlog.get_logger("gateway")
        self.counts: Final = RelayCounts()
        self._connecting: set[asyncio.Task[None]] = set()
        self._down_since: float | None = None
        self.trouble = ""
        """Why it cannot be reached; empty while it can."""
        self.clock_trouble = ""
        """How its clock differs; empty while signatures are valid by both clocks."""
        self.version = ""
        """Its release, from hello-ok; empty until one was received."""
        self.crowded_at: float | None = None
        """When it last refused a socket because an address had too many that were not connected."""

    @property
    def down_seconds(self) -> float:
        """Duration of the outage in seconds; 0 while it is reachable."""
        return 0.0 if self._down_since is None else self._clock.monotonic() - self._down_since

    @property
    def refuses_devices(self) -> bool:
        """Whether devices cannot be connected to it for the time being."""
        return bool(self.trouble or self.clock_trouble)

    def open(
        self,
        user: str,
        client: ForwardedClient,
        listener: Listener,
        *,
        scopes: Sequence[str] | None = None,
        path: str | None = None,
    ) -> UpstreamSocket:
        """Start opening a socket as an upstream user; its listener learns of the end.

        `scopes` narrow what that user may do.
        """
        headers = [*forwarded_headers(client), *identity_headers(self.names, user)]
        if scopes is not None:
            headers.append(scopes_header(scopes))
        socket = UpstreamSocket(path or self.address.path, headers, listener, self._loop_budget)
        task = asyncio.get_running_loop().create_task(self._connect(socket))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        return socket

    async def stop(self) -> None:
        """Cancel the sockets that are still connecting."""
        for task in self._connecting:
            task.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)

    def reached(self, version: str = "") -> None:
        """Record that it answers."""
        self.version = version or self.version
        if self._down_since is not None:
            self._log.info(log_events.UPSTREAM_BACK.name, seconds=round(self.down_seconds, 3))
            self._down_since, self.trouble = None, ""

    def failed(self, why: str) -> None:
        """Record that it does not answer, and why."""
        if why.startswith(_CROWDED):
            self.crowded_at = self._clock.monotonic()
        self.trouble = why
        if self._down_since is None:
            self._down_since = self._clock.monotonic()
            self.counts.outages += 1
            self._log.warning(log_events.UPSTREAM_LOST.name, error=why)

    def failed_with(self, error: OSError | aiohttp.ClientConnectorError) -> str:
        """Record why connecting failed, and return the reason as text."""
        why = _reason(error)
        self.failed(why)
        return why

    def note_clock(self, upstream_ms: int) -> bool:
        """Record the time in a challenge; return whether signatures are valid by both clocks.

        A client signs the time of the challenge that it gets. Each change of the state is logged.
        """
        apart_ms = upstream_ms - self._clock.wall_ns() // NS_PER_MS
        margin_ms = CLOCK_MARGIN_MS if self.clock_trouble else 0
        if abs(apart_ms) <= SIGNED_AT_SKEW_MS - margin_ms:
            if self.clock_trouble:
                self._log.info(log_events.UPSTREAM_CLOCK_AGREES.name)
                self.clock_trouble = ""
            return True
        seconds, where = abs(apart_ms) // 1000, "ahead" if apart_ms > 0 else "behind"
        if not self.clock_trouble:
            self._log.warning(
                log_events.UPSTREAM_CLOCK_DIFFERS.name, seconds=seconds, upstream_is=where
            )
        self.clock_trouble = f"its clock differs by {seconds} s ({where})"
        return False

    async def connect(self, protocol: Callable[[], asyncio.Protocol]) -> bool:
        """Connect; False if that fails, which is recorded."""
        return not await self._connected(protocol)

    async def _connect(self, socket: UpstreamSocket) -> None:
        why = await self._connected(lambda: socket)
        if why:
            socket.fail(why)

    async def _connected(self, protocol: Callable[[], asyncio.Protocol]) -> str:
        """Connect; return the reason for a failure, or an empty text."""
        address = self.address
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await asyncio.get_running_loop().create_connection(
                    protocol, address.host, address.port, ssl=self.tls
                )
        except OSError as error:  # TimeoutError is one
            return self.failed_with(error)
        return ""


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return _reason(error.certificate_error)
    if isinstance(error, aiohttp.ClientConnectorError):
        return _reason(error.os_error)
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
