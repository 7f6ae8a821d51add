"""Posts one notification to one target, within bounds of time and size."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiohttp import (
    ClientConnectorCertificateError,
    ClientConnectorDNSError,
    ClientError,
    ClientResponse,
    ClientSession,
    ClientSSLError,
    ClientTimeout,
    DummyCookieJar,
    ServerDisconnectedError,
    TCPConnector,
)

from services.approval.notifications.formats import body_of
from services.approval.notifications.resolver import CheckedResolver, PrivateAddress
from shared.version import VERSION

if TYPE_CHECKING:
    from services.approval.notifications.event import Event
    from services.approval.notifications.signing import SigningKeys
    from services.approval.notifications.targets import Target

ATTEMPT_SECONDS: Final = 10.0
"""An attempt fails after this time, whatever it waits for."""
BODY_SECONDS: Final = 1.0
"""How long the body of a response is read; only its status counts."""
BODY_LIMIT_BYTES: Final = 4_096
"""How much of it is read; of a longer one, the connection is closed."""
RETRY_AFTER_DIGITS: Final = 9
"""Digits read of `Retry-After`, in seconds; what is longer exceeds every limit."""
DELIVERED: Final = "delivered"
RESULTS: Final = (
    DELIVERED,
    "status",
    "redirected",
    "timeout",
    "name",
    "private-address",
    "tls",
    "connect",
    "protocol",
)
"""Results of attempts, as in the metric."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of an attempt. `error` says why it failed, without the target's address."""

    result: str
    error: str = ""
    status: int = 0
    retry_after_ms: int = 0

    @property
    def is_delivered(self) -> bool:
        """Whether the target has accepted the notification."""
        return self.result == DELIVERED


class Poster:
    """Posts to one target over connections of its own. Must be closed."""

    def __init__(
        self,
        target: Target,
        keys: SigningKeys,
        *,
        public_url: str,
        resolver: CheckedResolver,
        attempt_seconds: float = ATTEMPT_SECONDS,
    ) -> None:
        self._target = target
        self._keys = keys
        self._public_url = public_url
        self._seconds = attempt_seconds
        self._session = ClientSession(
            connector=TCPConnector(limit=1, resolver=resolver, use_dns_cache=False),
            cookie_jar=DummyCookieJar(),
            timeout=ClientTimeout(total=attempt_seconds),
            headers={"User-Agent": f"latchkey/{VERSION}", "Content-Type": "application/json"},
            auto_decompress=False,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def post(self, event: Event, now_ms: int) -> Outcome:
        """Make one attempt. Never raises because of the target."""
        target = self._target
        body = body_of(target.form, event, public_url=self._public_url, topic=target.topic)
        headers = self._keys.headers(event.id, now_ms // 1000, body)
        try:
            async with self._session.post(
                target.url, data=body, headers=headers, allow_redirects=False
            ) as response:
                await _skip_body(response)
                return _outcome_of(response)
        except Exception as error:  # noqa: BLE001 (its text may contain the address)
            return self._failure(error)

    def _failure(self, error: Exception) -> Outcome:
        """Return the outcome of an attempt that ended without a status."""
        if isinstance(error, TimeoutError):
            return Outcome("timeout", f"no answer within {self._seconds:g} s")
        if isinstance(error, ClientConnectorDNSError):
            if isinstance(error.os_error, PrivateAddress):
                return Outcome("private-address", "its host resolves to a private address")
            return Outcome("name", "its host name cannot be resolved")
        if isinstance(error, ClientConnectorCertificateError | ClientSSLError):
            unknown = isinstance(error, ClientConnectorCertificateError)
            why = "its certificate is not accepted" if unknown else "TLS failed"
            return Outcome("tls", f"no secure connection: {why}")
        if isinstance(error, OSError | ServerDisconnectedError):
            return Outcome("connect", "no connection, or it was lost")
        return Outcome("protocol", f"its answer cannot be read ({type(error).__name__})")


async def _skip_body(response: ClientResponse) -> None:
    """Read a short body, so that the connection can be used again; close it after a longer one."""
    with contextlib.suppress(ClientError, TimeoutError, OSError):
        async with asyncio.timeout(BODY_SECONDS):
            await response.content.read(BODY_LIMIT_BYTES)
    if not response.content.at_eof():
        response.close()


def _outcome_of(response: ClientResponse) -> Outcome:
    status = response.status
    if 200 <= status < 300:  # noqa: PLR2004 (success in HTTP)
        return Outcome(DELIVERED, status=status)
    if 300 <= status < 400:  # noqa: PLR2004 (redirection in HTTP)
        return Outcome("redirected", f"HTTP {status}: redirects are not followed", status)
    return Outcome("status", f"HTTP {status}", status, _asked_ms(response))


def _asked_ms(response: ClientResponse) -> int:
    """Return the delay in `Retry-After`, 0 if it is a date or no number; the policy limits it."""
    asked = response.headers.get("Retry-After", "")
    return int(asked[:RETRY_AFTER_DIGITS]) * 1000 if asked.isascii() and asked.isdigit() else 0
