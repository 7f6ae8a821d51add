"""HTTP check: which product answers, and whether it is ready."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final
from urllib.parse import urljoin, urlsplit

import aiohttp
import msgspec

from services.approval.api.public import Ready
from services.cli.client import ApprovalClient
from services.cli.doctor import causes, openclaw_causes, product, redis_causes
from services.cli.doctor.checks.network import speaks_tls
from services.cli.doctor.checks.upstream import warnings_of_upstream
from services.cli.doctor.journey import Wrong
from services.cli.doctor.product import ATTRIBUTION_REQUIRED, Kind, Product
from services.cli.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.cli.doctor.cause import Cause
    from services.cli.doctor.journey import Journey

PAGE_LIMIT_BYTES: Final = 65_536
ABOUT_APPROVAL: Final = b"This is Latchkey's approval service"
CHALLENGE_HEADER: Final = "cf-mitigated"
"""The header of a Cloudflare challenge, whatever its status."""
_OF_OTHERS: Final[Mapping[int, Cause]] = {
    **dict.fromkeys((401, 407), causes.LOGIN_REQUIRED),
    **dict.fromkeys((403, 429), causes.FORBIDDEN),
    **dict.fromkeys((500, 502, 503, 504, 520, 521, 522, 523, 524, 530), causes.PROXY_ALONE),
}
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_REDIS: Final = frozenset({"redis"})
_APPROVAL: Final = frozenset({"approval", "lease"})


async def ask(journey: Journey) -> None:
    """Get `/readyz` to find out which product answers and whether it is ready."""
    status, headers, body = await fetch(journey, "/readyz")
    ready = _read(body)
    if ready is not None:
        await _check_ready(journey, ready)
        return
    if ATTRIBUTION_REQUIRED in body:
        raise proxy_untrusted(journey, "/readyz", status)
    openclaw_ready = product.openclaw_readiness(body)
    if openclaw_ready is not None and await _is_openclaw(journey):
        if not openclaw_ready:
            raise Wrong(openclaw_causes.STARTING, f"/readyz returned {status}: not ready")
        journey.ok(f"this is {journey.product.title}, not Latchkey; ready")
        return
    by = f" by {headers['Server']}" if "Server" in headers else ""
    answer = f"/readyz returned {status}{by}"
    if status in _REDIRECTS:
        location = urljoin(journey.http_url("/"), headers.get("Location", ""))
        if not urlsplit(location).path.endswith("/readyz"):
            raise Wrong(causes.LOGIN_REQUIRED, f"{answer}: {location}")
        target = location.removesuffix("/readyz").replace("http", "ws", 1)
        raise Wrong(causes.REDIRECTED, f"{answer}: {location}", location=target)
    if CHALLENGE_HEADER in headers:
        raise Wrong(causes.FORBIDDEN, f"{answer}: a browser challenge")
    if (cause := _OF_OTHERS.get(status)) is not None:
        raise Wrong(cause, answer)
    if not journey.secure and await speaks_tls(journey):
        raise _in_the_clear(journey, answer)
    journey.note(f"{answer}: neither Latchkey nor OpenClaw")


async def _is_openclaw(journey: Journey) -> bool:
    """Read OpenClaw's public pages; raises Wrong if it does not trust the proxy."""
    _, _, healthz = await fetch(journey, "/healthz")
    if not product.is_openclaw_live(healthz):
        return False
    journey.product = Product(Kind.OPENCLAW)
    status, _, page = await fetch(journey, "/")
    if ATTRIBUTION_REQUIRED in page:
        raise proxy_untrusted(journey, "/", status)
    journey.product = Product(Kind.OPENCLAW, product.version_of_page(page))
    return True


def proxy_untrusted(journey: Journey, path: str, status: int) -> Wrong:
    """Return the error for an OpenClaw gateway that does not trust its proxy."""
    journey.product = Product(Kind.OPENCLAW)
    found = f"OpenClaw answers {path} with {status} proxy_attribution_required"
    return Wrong(openclaw_causes.PROXY_UNTRUSTED, found)


async def fetch(
    journey: Journey, path: str, headers: Mapping[str, str] | None = None
) -> tuple[int, Mapping[str, str], bytes]:
    """Return status, headers and at most PAGE_LIMIT_BYTES of a page; raises Wrong."""
    try:
        async with asyncio.timeout(journey.options.timeouts.call):
            async with journey.session.get(
                journey.http_url(path), headers=headers, allow_redirects=False
            ) as response:
                body = await response.content.read(PAGE_LIMIT_BYTES)
                return response.status, response.headers, body
    except TimeoutError:
        if not journey.secure and await speaks_tls(journey):
            raise _in_the_clear(journey, "no response to plain HTTP") from None
        seconds = journey.options.timeouts.call
        raise Wrong(causes.HTTP_SILENT, f"no HTTP response within {seconds:g} s") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        why = str(error) or type(error).__name__
        if not journey.secure and await speaks_tls(journey):
            raise _in_the_clear(journey, why) from None
        raise Wrong(causes.NOT_HTTP, f"not HTTP: {why}") from None


def approval_of(journey: Journey) -> ApprovalClient:
    """Return a client of the configured approval service, as a context manager."""
    config = journey.config
    return ApprovalClient(config.approval_url, config.admin_token, config)


async def _check_ready(journey: Journey, ready: Ready) -> None:
    dependencies = ready.dependencies or {}
    if "store" in dependencies:
        raise Wrong(
            causes.APPROVAL_ADDRESS, f"/readyz belongs to an approval service ({ready.boot_id})"
        )
    journey.product = Product(Kind.LATCHKEY)
    if ready.ready:
        journey.ready = ready
        journey.ok(f"a Latchkey gateway, replica {ready.boot_id[:12]}, ready")
        for cause, why in warnings_of_upstream(ready):
            journey.warn(cause, f"its upstream: {why}", reason=why)
        return
    raise await not_ready(journey, ready)


async def not_ready(journey: Journey, ready: Ready) -> Wrong:
    """Return why a gateway is not ready, as far as it can be determined from here."""
    failing = frozenset(ready.failing or ())
    reasons = {name: item.reason for name, item in (ready.dependencies or {}).items()}
    reasons_text = "; ".join(f"{name}: {reasons.get(name, '')}" for name in sorted(failing))
    found = f"replica {ready.boot_id} is not ready" + (f": {reasons_text}" if reasons_text else "")
    if failing & _REDIS:
        named = redis_causes.cause_in(reasons.get(name, "") for name in _REDIS)
        return Wrong(named or causes.REDIS_AWAY, found)
    if failing & _APPROVAL:
        approval = await _ask_approval(journey)
        if approval is None:
            return Wrong(causes.APPROVAL_AWAY, found)
        if approval.ready:
            return Wrong(causes.BUS_SECRETS_DIFFER, found)
        theirs = [one.reason for one in (approval.dependencies or {}).values() if not one.ok]
        named = redis_causes.cause_in(theirs)
        found = "; ".join((found, *(f"approval: {reason}" for reason in theirs)))
        return Wrong(named or causes.APPROVAL_AWAY, found)
    return Wrong(causes.NOT_READY, found, failing=", ".join(sorted(failing)) or "no reason given")


async def _ask_approval(journey: Journey) -> Ready | None:
    """Return the readiness of the approval whose address is known; None if it does not answer."""
    async with approval_of(journey) as approval:
        try:
            return await approval.ready()
        except CommandError:
            return None


def _in_the_clear(journey: Journey, found: str) -> Wrong:
    tls_url = journey.url.replace("ws://", "wss://", 1)
    return Wrong(causes.TLS_WANTED, found, tls_url=tls_url)


def _read(body: bytes) -> Ready | None:
    try:
        return msgspec.json.decode(body, type=Ready)
    except msgspec.MsgspecError:
        return None
