"""Setup codes in Redis: one value per code, and sorted sets of the live ones.

A code is written by commits only, so that what it causes and its own change are one step.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import replace

from services.approval.domain.errors import UnknownSetupCode, UnreadableRecord
from services.approval.domain.records import VERSION_CHARACTERS, AuditEntry
from services.approval.domain.setup_codes import (
    KEPT_MS,
    LIFETIME_MS,
    LIVE_LIMIT_CODES,
    LIVE_LIMIT_CODES_PER_CREATOR,
    SetupCode,
    VersionedCode,
    encode_code,
    read_code,
)
from services.approval.storage.keys import SETUP_LIVE, setup_code_key, setup_live_of_key
from services.approval.storage.reads import values_of
from services.approval.storage.redis import reaching_redis
from shared.rpc.messages import Changed, Position

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from redis.asyncio import Redis

    from services.approval.storage.changes.transaction import Transaction, TransactionPlan
    from services.approval.storage.reads import Read


CREATED: Final = "setup-code-created"
BOUND: Final = "setup-code-bound"
REDEEMED: Final = "setup-code-redeemed"
REFUSED: Final = "setup-code-refused"
REVOKED: Final = "setup-code-revoked"
DELIVERED: Final = "setup-code-delivered"
UNCERTAIN: Final = "setup-code-delivery-uncertain"
"""Actions in the audit log, which are the kinds of these changes, too."""


class SetupCodeStore:
    """Reads setup codes. Every method may raise StoreUnavailable."""

    def __init__(self, client: Redis, read: Read, now_ms: Callable[[], int]) -> None:
        self._client: Any = client  # its types allow bytes and str; all values here are bytes
        self._read = read
        self._now_ms = now_ms

    async def load(self, setup_ids: Sequence[str]) -> list[VersionedCode]:
        """Return these codes; raises UnreadableRecord."""
        if not setup_ids:
            return []
        keys = [setup_code_key(one) for one in setup_ids]
        values = await values_of(self._read, keys)
        return [_read(key, value) for key, value in zip(keys, values, strict=True)]

    async def one(self, setup_id: str) -> VersionedCode:
        """Return one code; raises UnreadableRecord."""
        (found,) = await self.load([setup_id])
        return found

    async def live(self) -> list[VersionedCode]:
        """Return all live codes, newest first; one that cannot be read is left out."""
        now_ms = self._now_ms()
        async with reaching_redis():
            found = await self._client.zrange(SETUP_LIVE, 0, LIVE_LIMIT_CODES - 1, desc=True)
        keys = [setup_code_key(one.decode(errors="replace")) for one in found]
        codes = []
        for key, value in zip(keys, await values_of(self._read, keys) if keys else (), strict=True):
            try:
                held = _read(key, value)
            except UnreadableRecord:
                continue
            if held.code is not None and held.code.is_live(now_ms):
                codes.append(held)
        return codes

    async def prune(self, creator: str) -> None:
        """Drop expired codes from the sorted sets, so that they no longer count as live."""
        now_ms = self._now_ms()
        async with reaching_redis():
            pipeline = self._client.pipeline(transaction=False)
            for key in (SETUP_LIVE, setup_live_of_key(creator)):
                pipeline.zremrangebyscore(key, "-inf", now_ms)
                pipeline.pexpire(key, LIFETIME_MS + KEPT_MS)
            await pipeline.execute()


def actor_of(setup_id: str) -> str:
    """Return how the audit log names a setup code that decided."""
    return f"setup-code:{setup_id}"


def change_of(
    kind: str,
    code: SetupCode,
    actor: str,
    at_ms: int,
    *,
    request: bytes = b"",
    label: str = "",
    address: str = "",
    reason: str = "",
) -> tuple[Changed, AuditEntry]:
    """Return a change of a code, to publish, with its audit entry.

    The change names no device: it concerns no record. `request` is JSON for clients.
    """
    grants = code.grants
    redeemed = kind == REDEEMED
    return (
        Changed(Position(), "", device_id="", kind=kind, at_ms=at_ms, request=request),
        AuditEntry(
            action=kind,
            device_id=code.device_id,
            actor=actor,
            at_ms=at_ms,
            roles=grants.roles if redeemed else (),
            scopes=grants.scopes if redeemed else (),
            label=label or code.device_name,
            address=address,
            setup_id=code.setup_id,
            access=grants.access,
            reason=reason,
        ),
    )


def limit_codes(plan: TransactionPlan, code: SetupCode) -> None:
    """Require that the limits of live codes permit one more."""
    plan.limit(setup_live_of_key(code.created_by), LIVE_LIMIT_CODES_PER_CREATOR, code.setup_id)
    plan.limit(SETUP_LIVE, LIVE_LIMIT_CODES, code.setup_id)


def put_code(plan: TransactionPlan, held: VersionedCode, after: SetupCode, now_ms: int) -> None:
    """Replace a code that was read, and keep the sorted sets of live codes."""
    key = setup_code_key(after.setup_id)
    plan.expect(key, held.version)
    version = secrets.token_hex(VERSION_CHARACTERS // 2).encode()
    ends_ms = max(after.used_at_ms, after.revoked_at_ms) or after.expires_at_ms
    kept_ms = max(1, ends_ms + KEPT_MS - now_ms)
    plan.write("SET", key, version + encode_code(after), "PX", kept_ms)
    is_live = after.is_live(now_ms)
    for index in (SETUP_LIVE, setup_live_of_key(after.created_by)):
        if is_live:
            plan.write("ZADD", index, after.expires_at_ms, after.setup_id)
        else:
            plan.write("ZREM", index, after.setup_id)


def add_revocation(entry: Transaction, held: VersionedCode, actor: str) -> SetupCode:
    """Add the revocation of a code to a transaction; return the code as it will be."""
    if held.code is None:
        raise UnknownSetupCode
    code = replace(held.code, revoked_at_ms=entry.now_ms)
    put_code(entry.plan, held, code, entry.now_ms)
    entry.plan.change(*change_of(REVOKED, code, actor, entry.now_ms))
    return code


def _read(key: str, value: bytes | None) -> VersionedCode:
    try:
        return read_code(value)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise UnreadableRecord(key) from None
