"""Checks behind the address: replicas, their health, approval, and Redis's configuration."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import UNSET

from services.approval.api.public import Ready
from services.approval.schemas.webhooks import WebhookList
from services.cli.commands.upstream import problems_of
from services.cli.doctor import causes, redis_causes, refusals
from services.cli.doctor.checks.connections import AT_ONCE, PROBE, connect, repeat, shared_secrets
from services.cli.doctor.checks.http import approval_of, fetch, not_ready
from services.cli.doctor.journey import Wrong
from services.cli.errors import CommandError, NotAuthorised
from services.cli.invocation import typed
from services.cli.text.words import safe
from shared.device.handshake import Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.approval.schemas.replicas import UpstreamSeen
    from services.approval.schemas.webhooks import WebhookObject
    from services.cli.client import ApprovalClient
    from services.cli.doctor.journey import Journey

DRAIN_SECONDS: Final = 20
"""The default of DRAIN_SECONDS."""
LEAVING_SECONDS: Final = 2
"""Time that shutting down takes after draining."""
_WARNINGS: Final = (
    ("appendonly is off", causes.APPENDONLY_OFF),
    ("appendfsync is", causes.WRITES_LATE),
    ("maxmemory-policy", causes.MEMORY_EVICTS),
)
_SHARED: Final = "; sticky sessions are not needed: all use the same approval"


async def survey(journey: Journey) -> None:
    """Connect several times and report which replicas answered; all must give the same answer.

    With a gateway token, each connection requires a request to approval, which shows that the
    replica can reach it.
    """
    secrets = shared_secrets(journey)

    async def replica() -> str:
        outcome = (await connect(journey, PROBE, None, secrets)).outcome
        if isinstance(outcome, Refused) and (outcome.error is None or secrets is not None):
            raise refusals.wrong(journey, outcome)
        replica, colon, _ = outcome.connection_id.partition(":")
        return replica if colon or not journey.is_latchkey else ""

    landed, trouble = await repeat(journey, replica)
    counts = Counter(landed)
    where = ", ".join(
        f"{replica[:12] or 'unnamed'} ({count})" for replica, count in counts.most_common()
    )
    if trouble:
        raise disagreement(len(landed), trouble, where)
    if set(counts) == {""} and journey.is_latchkey:
        journey.ok(
            f"{counts.total()} connections were admitted; OpenClaw answered them, so replicas"
            " cannot be told apart"
        )
        return
    journey.replicas = len(counts)
    many = "1 replica" if len(counts) == 1 else f"{len(counts)} replicas"
    shared = _SHARED if journey.is_latchkey else ""
    journey.ok(f"{counts.total()} connections reached {many}: {where}{shared}")


def disagreement(right: int, trouble: list[Wrong], where: str) -> Wrong:
    """Return the error for failed connections: the cause itself if all failed."""
    if not right:
        return trouble[0]
    found = f"{len(trouble)} of {right + len(trouble)} connections failed"
    found += f" ({trouble[0].cause.id}: {trouble[0].found}); the others reached {where}"
    return Wrong(causes.REPLICAS_DISAGREE, found)


async def read_health(journey: Journey) -> None:
    """Read `/readyz` of the replicas: failing dependencies and untrusted proxies."""
    if journey.ready is None:
        journey.note("/readyz is not available here")
        return
    seen = await _ask_replicas(journey)
    counted = f"replicas checked: {len(seen)}"
    if len(seen) < journey.replicas:
        counted += f" of {journey.replicas}, selected at random"
    for ready in seen.values():
        if not ready.ready:
            raise await not_ready(journey, ready)
    if not any(ready.dependencies for ready in seen.values()):
        journey.note(f"ready ({counted}); details are available only on OPS_PORT")
        return
    warnings = {
        warning: None
        for ready in seen.values()
        for dependency in (ready.dependencies or {}).values()
        for warning in dependency.warnings or ()
    }
    of_redis = [warning for warning in warnings if redis_causes.cause_in([warning])]
    for warning in of_redis:
        _report_warning(journey, warning)
    if not [warning for warning in warnings if _warn_of_proxy(journey, warning)] + of_redis:
        journey.ok(f"Redis, approval and heartbeats are healthy ({counted})")


def _warn_of_proxy(journey: Journey, warning: str) -> bool:
    """Report a warning about a proxy; return whether it was one."""
    peer = warning.partition(" ")[0]
    if "TRUSTED_PROXIES" in warning:
        journey.warn(causes.PROXY_UNTRUSTED, f"{peer} sends forwarding headers", peer=peer)
    elif "no valid client address" in warning:
        journey.warn(causes.PROXY_UNREADABLE, warning, peer=peer)
    else:
        return False
    return True


async def _ask_replicas(journey: Journey) -> dict[str, Ready]:
    """Read `/readyz` once per connection; return the answers by replica."""
    seen: dict[str, Ready] = {}
    left = journey.options.connections
    while left > 0:
        pages = (
            fetch(journey, "/readyz", {"Connection": "close"})  # any replica
            for _ in range(min(left, AT_ONCE))
        )
        for _, _, body in await asyncio.gather(*pages):
            try:
                ready = msgspec.json.decode(body, type=Ready)
            except msgspec.MsgspecError:
                raise Wrong(
                    causes.REPLICAS_DISAGREE, "/readyz is not always answered by a gateway"
                ) from None
            seen[ready.boot_id] = ready
        left -= AT_ONCE
    return seen


async def ask_approval(journey: Journey) -> None:
    """Check, if approval's address is known, that it is ready and that Redis is durable."""
    config = journey.config
    async with approval_of(journey) as approval:
        try:
            ready = await approval.ready()
        except CommandError as error:
            if config.text("APPROVAL_URL"):
                journey.warn(causes.APPROVAL_UNREACHABLE, error.message)
            else:
                journey.note("not reachable from here; set APPROVAL_URL to check it")
            return
        if not ready.ready:
            failing = ", ".join(ready.failing or ()) or "no reason given"
            found = f"replica {ready.boot_id} is not ready"
            reasons = [one.reason for one in (ready.dependencies or {}).values() if not one.ok]
            named = redis_causes.cause_in(reasons)
            raise Wrong(
                named or causes.APPROVAL_NOT_READY, "; ".join((found, *reasons)), failing=failing
            )
        journey.ok(f"{approval.url} is ready, replica {ready.boot_id[:12]}")
        for dependency in (ready.dependencies or {}).values():
            for warning in dependency.warnings or ():
                if not _warn_of_proxy(journey, warning):
                    _report_warning(journey, warning)
        if config.admin_token is not None:
            await _ask_as_operator(journey, approval)


def _report_warning(journey: Journey, warning: str) -> None:
    for begins, cause in _WARNINGS:
        if warning.startswith(begins):
            journey.warn(cause, warning)
            return
    if (named := redis_causes.cause_in([warning])) is None:
        journey.note(warning)
    elif named not in {finding.cause for finding in journey.findings}:
        journey.warn(named, warning)


async def _ask_as_operator(journey: Journey, approval: ApprovalClient) -> None:
    try:
        live = await approval.replicas()
        waiting = await approval.pending()
        targets = (await approval.call("GET", "/v1/webhooks", WebhookList)).webhooks
    except NotAuthorised as error:
        journey.warn(causes.ADMIN_TOKEN_WRONG, error.message)
        return
    except CommandError as error:
        journey.note(error.message)
        return
    for gateway in live.gateways:
        if gateway.upstream is not UNSET:
            _warn_of_upstream(journey, gateway.boot_id, gateway.upstream)
    _warn_of_targets(journey, targets)
    counts = f"alive: gateways {len(live.gateways)}, approvals {len(live.approvals)}"
    shown = typed("devices list")
    wait = f"; pending requests: {len(waiting)} ({shown})" if waiting else "; no pending requests"
    journey.ok(counts + wait)


def _warn_of_targets(journey: Journey, targets: Sequence[WebhookObject]) -> None:
    """Warn of targets of notifications that fail."""
    for target in targets:
        if target.failing_since_ms is not UNSET:
            why = "" if target.last_error is UNSET else safe(target.last_error)
            found = f"{target.name} ({safe(target.host)}): {why}; {target.queued} waiting"
            journey.warn(causes.NOTIFICATIONS_FAILING, found, target=target.name)


def _warn_of_upstream(journey: Journey, replica: str, found: UpstreamSeen) -> None:
    """Warn of what is wrong with the OpenClaw behind a gateway, of each cause once."""
    known = {finding.cause for finding in journey.findings}
    for cause, values in problems_of(found):
        if cause not in known:
            journey.warn(cause, f"gateway {replica[:12]} reports {cause.id}", **values)


async def look_at_settings(journey: Journey) -> None:
    """Check settings of the platform that this runs on."""
    config = journey.config
    if not config.text("RAILWAY_PROJECT_ID"):
        return
    name = "RAILWAY_DEPLOYMENT_DRAINING_SECONDS"
    given = _seconds(config.text(name), 0)
    required = _seconds(config.text("DRAIN_SECONDS"), DRAIN_SECONDS) + LEAVING_SECONDS
    if given < required:
        found = f"{name} is {given:g} on this service, but shutting down takes up to {required:g} s"
        journey.warn(causes.DRAINING_OFF, found, seconds=f"{required:g}")
    else:
        journey.ok(f"{name} is {given:g}; shutting down takes up to {required:g} s")


def _seconds(text: str, otherwise: float) -> float:
    try:
        return float(text)
    except ValueError:
        return otherwise
