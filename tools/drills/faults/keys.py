"""Our keys are deleted, emptied, and replaced by another type, one after the other."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from services.approval.storage.heartbeats.presence import (
    APPROVALS,
    GATEWAYS,
    PRESENCE_VERSION,
    presence_key,
)
from services.approval.storage.keys import (
    AUDIT,
    CHANGES,
    DECISIONS,
    HEAD,
    LEFT_OUT,
    PAIRED,
    PAIRED_COUNT,
    PENDING,
    device_key,
)
from tools.drills.fault import Back, Fault, Hits, Promise
from tools.drills.stack.settings import BEYOND_LEASE_SECONDS, MOMENT_SECONDS

if TYPE_CHECKING:
    from tools.drills.fault_context import FaultContext

PRESENCE: Final = presence_key("*")
SHORTER_BYTES: Final = 30


async def lose(context: FaultContext, case: str) -> None:
    """Delete a key, empty it, and replace its type, with a revocation right after the first."""
    for turn, (word, harm) in enumerate((("deleted", delete), ("emptied", empty), ("a list", put))):
        keys = await _keys(context, case)
        context.note(f"{case}: {word}")
        for key in keys:
            await context.stack.with_admin(partial(harm, key=key))
        if turn == 0:
            context.struck()
            context.revoke()
        await context.last(MOMENT_SECONDS)


async def lose_history(context: FaultContext, case: str) -> None:
    """Lose a history key, and wait until the last sessions that this ends are closed."""
    await lose(context, case)
    await context.last(BEYOND_LEASE_SECONDS)


async def spoil_record(context: FaultContext, _case: str) -> None:
    """Truncate a device's record; removing the device repairs it."""
    key = device_key(context.victim_id)
    context.note("the revoked's record is truncated")
    await context.stack.with_admin(
        lambda client: client.set(key, client.getrange(key, 0, SHORTER_BYTES))
    )
    await context.last(MOMENT_SECONDS)
    context.revoke()
    await context.last(MOMENT_SECONDS)


def delete(client: Any, *, key: str) -> None:
    """Delete a key, as an eviction does."""
    client.delete(key)


def empty(client: Any, *, key: str) -> None:
    """Empty a key: a stream without entries, otherwise an empty string."""
    if client.type(key) == b"stream":
        client.xtrim(key, maxlen=0, approximate=False)
    else:
        client.set(key, b"")


def put(client: Any, *, key: str) -> None:
    """Store another type under the key."""
    client.delete(key)
    client.rpush(key, b"not ours")


async def _keys(context: FaultContext, case: str) -> list[str]:
    found: list[str] = []

    def look(client: Any) -> None:
        found.extend(key.decode() for key in client.scan_iter(match=case, count=1000))

    if case.endswith("*"):
        await context.stack.with_admin(look)
        return found
    return [case]


FAULTS: Final = (
    Fault(
        name="key of history lost",
        do=lose_history,
        cases=(HEAD, CHANGES),
        promise=Promise(hits=Hits.EVERYBODY, within_lease=True, back=Back.FROM_END),
    ),
    Fault(
        name="another key lost",
        do=lose,
        cases=(
            *(AUDIT, DECISIONS, LEFT_OUT, PAIRED, PAIRED_COUNT, PENDING),
            *(GATEWAYS, APPROVALS, PRESENCE_VERSION, PRESENCE),
        ),
        promise=Promise(back=Back.FROM_END),
    ),
    Fault(
        name="key of a record cut short",
        do=spoil_record,
        promise=Promise(back=Back.FROM_END),
    ),
)
