"""Behind the address: which replicas, what they miss, and how Redis is set up."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Final

import msgspec

from services.approval.api.public import Ready
from services.cli.doctor import causes, refusals
from services.cli.doctor.checks.connections import AT_ONCE, PROBE, connect, repeat, shared_secrets
from services.cli.doctor.checks.http import approval_of, fetch, not_ready
from services.cli.doctor.journey import Wrong
from services.cli.errors import CommandError, NotAuthorised
from services.cli.invocation import typed
from shared.device.handshake import Refused

if TYPE_CHECKING:
    from services.cli.client import ApprovalClient
    from services.cli.doctor.journey import Journey

DRAIN_SECONDS: Final = 20
"""How long a gateway takes to leave unless told otherwise."""
LEAVING_SECONDS: Final = 2
"""What it needs beyond that."""
_WARNINGS: Final = (
    ("appendonly is off", causes.APPENDONLY_OFF),
    ("appendfsync is", causes.WRITES_LATE),
    ("maxmemory-policy", causes.MEMORY_EVICTS),
)
_SHARED: Final = "; no sticky sessions are needed: all ask the same approval"


async def survey(journey: Journey) -> None:
    """Connect several times and say which replicas answered; all have to answer alike.

    With a gateway token each connection is one question to approval, so that each replica shows
    that it reaches it.
    """
    secrets = shared_secrets(journey)

    async def replica() -> str:
        outcome = (await connect(journey, PROBE, None, secrets)).outcome
        if isinstance(outcome, Refused) and (outcome.error is None or secrets is not None):
            raise refusals.wrong(journey, outcome)
        return outcome.connection_id.partition(":")[0]

    landed, trouble = await repeat(journey, replica)
    counts = Counter(landed)
    where = ", ".join(
        f"{replica[:12] or 'unnamed'} ({count})" for replica, count in counts.most_common()
    )
    if trouble:
        raise disagreement(len(landed), trouble, where)
    journey.replicas = len(counts)
    many = "1 replica" if len(counts) == 1 else f"{len(counts)} replicas"
    shared = _SHARED if journey.is_latchkey else ""
    journey.ok(f"{counts.total()} connections landed on {many}: {where}{shared}")


def disagreement(right: int, trouble: list[Wrong], where: str) -> Wrong:
    """Say that some connections failed, or the cause itself if all did."""
    if not right:
        return trouble[0]
    found = f"{len(trouble)} of {right + len(trouble)} connections failed"
    found += f" ({trouble[0].cause.id}: {trouble[0].found}); the others landed on {where}"
    return Wrong(causes.REPLICAS_DISAGREE, found)


async def read_health(journey: Journey) -> None:
    """Read `/readyz` of the replicas that answer: what they miss, and whom they do not believe."""
    if journey.ready is None:
        journey.note("/readyz is not to be read here")
        return
    seen = await _ask_replicas(journey)
    counted = f"replicas asked: {len(seen)}"
    if len(seen) < journey.replicas:
        counted += f" of {journey.replicas}, as chance had it"
    for ready in seen.values():
        if not ready.ready:
            raise await not_ready(journey, ready)
    if not any(ready.dependencies for ready in seen.values()):
        journey.note(f"ready ({counted}); they tell their reasons on OPS_PORT alone")
        return
    warnings = {
        warning: None
        for ready in seen.values()
        for dependency in (ready.dependencies or {}).values()
        for warning in dependency.warnings or ()
    }
    if not [warning for warning in warnings if _warn_of_proxy(journey, warning)]:
        journey.ok(f"Redis, approval and beats are there ({counted})")


def _warn_of_proxy(journey: Journey, warning: str) -> bool:
    """Warn of a proxy that is not believed or not understood; say whether this was one."""
    peer = warning.partition(" ")[0]
    if "TRUSTED_PROXIES" in warning:
        journey.warn(causes.PROXY_UNTRUSTED, f"{peer} sends forwarding headers", peer=peer)
    elif "no address can be read" in warning:
        journey.warn(causes.PROXY_UNREADABLE, warning, peer=peer)
    else:
        return False
    return True


async def _ask_replicas(journey: Journey) -> dict[str, Ready]:
    """Read `/readyz` as often as was connected; return what each replica that answered says."""
    seen: dict[str, Ready] = {}
    left = journey.wishes.connections
    while left > 0:
        pages = (
            fetch(journey, "/readyz", {"Connection": "close"})  # any replica
            for _ in range(min(left, AT_ONCE))
        )
        for _, _, body in await asyncio.gather(*pages):
            try:
                ready = msgspec.json.decode(body, type=Ready)
            except msgspec.MsgspecError:
                raise Wrong(causes.REPLICAS_DISAGREE, "/readyz is not always a gateway's") from None
            seen[ready.boot_id] = ready
        left -= AT_ONCE
    return seen


async def ask_approval(journey: Journey) -> None:
    """Ask approval, where this shell knows it, whether it is ready and Redis set up to last."""
    surroundings = journey.surroundings
    async with approval_of(journey) as approval:
        try:
            ready = await approval.ready()
        except CommandError as error:
            if surroundings.text("APPROVAL_URL"):
                journey.warn(causes.APPROVAL_UNREACHABLE, error.message)
            else:
                journey.note("not reachable from here; set APPROVAL_URL to have it looked at")
            return
        if not ready.ready:
            failing = ", ".join(ready.failing or ()) or "it does not say"
            found = f"replica {ready.boot_id} is not ready"
            raise Wrong(causes.APPROVAL_NOT_READY, found, failing=failing)
        journey.ok(f"{approval.url} is ready, replica {ready.boot_id[:12]}")
        for dependency in (ready.dependencies or {}).values():
            for warning in dependency.warnings or ():
                if not _warn_of_proxy(journey, warning):
                    _tell_warning(journey, warning)
        if surroundings.admin_token is not None:
            await _ask_as_operator(journey, approval)


def _tell_warning(journey: Journey, warning: str) -> None:
    for begins, cause in _WARNINGS:
        if warning.startswith(begins):
            journey.warn(cause, warning)
            return
    journey.note(warning)


async def _ask_as_operator(journey: Journey, approval: ApprovalClient) -> None:
    try:
        live = await approval.replicas()
        waiting = await approval.pending()
    except NotAuthorised as error:
        journey.warn(causes.ADMIN_TOKEN_WRONG, error.message)
        return
    except CommandError as error:
        journey.note(error.message)
        return
    counts = f"alive: gateways {len(live.gateways)}, approvals {len(live.approvals)}"
    shown = typed("devices list")
    wait = f"; requests that wait: {len(waiting)} ({shown})" if waiting else "; nobody waits"
    journey.ok(counts + wait)


async def look_at_settings(journey: Journey) -> None:
    """Look at what only the place where this runs can tell."""
    surroundings = journey.surroundings
    if not surroundings.text("RAILWAY_PROJECT_ID"):
        return
    name = "RAILWAY_DEPLOYMENT_DRAINING_SECONDS"
    given = _seconds(surroundings.text(name), 0)
    least = _seconds(surroundings.text("DRAIN_SECONDS"), DRAIN_SECONDS) + LEAVING_SECONDS
    if given < least:
        found = f"{name} is {given:g} on this service, and leaving takes up to {least:g} s"
        journey.warn(causes.DRAINING_OFF, found, seconds=f"{least:g}")
    else:
        journey.ok(f"{name} is {given:g}, and leaving takes up to {least:g} s")


def _seconds(text: str, otherwise: float) -> float:
    try:
        return float(text)
    except ValueError:
        return otherwise
