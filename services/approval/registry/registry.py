"""The only access path to device records: every operation checks the caller's rights.

The HTTP API and the socket methods call these methods with a Caller, so no interface can bypass
authorization. Rules are in `domain.policy` and `domain.pairing`, rights in `domain.authorization`.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

from msgspec.structs import replace

from services.approval.domain import authorization
from services.approval.domain import pairing as grants
from services.approval.domain.errors import (
    GrantsAdmin,
    InvalidLabel,
    InvalidScope,
    NotAllowed,
    RegistryError,
    RequestOver,
    StoreUnavailable,
    UnknownDevice,
    UnknownRequest,
    UnknownRole,
    UnreadableRecord,
)
from services.approval.domain.permissions import Permission
from services.approval.domain.records import (
    APPROVED,
    PENDING,
    REJECTED,
    Record,
    Token,
    active_token,
    open_request,
)
from services.approval.registry.lockouts import LockoutRegistry
from services.approval.registry.queries import Paired, Queries, paired
from services.approval.registry.rejections import Rejections, plan_rejections, revoke_codes
from services.approval.storage.changes.transaction import Transaction, device_source
from services.approval.storage.keys import device_key
from shared.protocol.limits import LABEL_LIMIT_CHARACTERS
from shared.protocol.scopes import ADMIN, first_uncovered
from shared.rpc.messages import EVERY_ROLE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from services.approval.domain.authorization import Caller
    from services.approval.domain.pairing import IdFactory
    from services.approval.domain.records import (
        Pairing,
        RequestNote,
        VersionedRecord,
    )
    from services.approval.storage.changes.transaction import Source
    from services.approval.storage.changes.transaction_log import TransactionLog
    from services.approval.storage.store import Store

CONFLICTS_LIMIT: Final = 32
"""Max. attempts at a commit that conflicts with others."""
CONFLICT_PAUSE_SECONDS: Final = 0.004
"""Max. random pause between those attempts."""

_NODE: Final = "node"
_Result = TypeVar("_Result")


class Registry(Queries):
    """Reads and changes device records. Every method may raise RegistryError.

    Calls with a call id are carried out once, however often they are retried.
    """

    def __init__(
        self, store: Store, ledger: TransactionLog, draws: IdFactory, *, ttl_ms: int
    ) -> None:
        super().__init__(store, ttl_ms=ttl_ms)
        self._ledger = ledger
        self._draws = draws
        self.lockouts: Final = LockoutRegistry(store, ledger)

    async def approve(self, caller: Caller, request_id: str, *, allow_admin: bool = True) -> Paired:
        """Approve a request (idempotent for operators) and return the device.

        Without `allow_admin`, raise GrantsAdmin if approval would grant operator.admin: the request
        may have come to grant more than the approver was shown, for instance after a revocation.
        """

        async def once(caller: Caller) -> Paired | None:
            note, held = await self._read(caller, request_id, hidden=not caller.is_admin)
            if note.state == APPROVED and caller.kind == "operator":
                if held.record is None or held.record.pairing is None:
                    raise RequestOver(note.state)
                return await self._confirm(caller, held, note.device_id, paired(held.record))
            entry = self._entry(caller)
            record, pending = open_request(
                request_id, note, held.record, now_ms=entry.now_ms, ttl_ms=self._ttl_ms
            )
            to_hold = authorization.require_approve(caller, record, pending)
            if not allow_admin and ADMIN in to_hold:
                raise GrantsAdmin
            outside = grants.scope_outside_roles(pending)
            if outside is not None:
                raise InvalidScope(outside)
            pairing = grants.approved(
                record.pairing, pending, now_ms=entry.now_ms, draws=self._draws
            )
            after = Record(record.device_id, record.public_key, pairing)
            entry.replace(held, after, note.device_id)
            entry.end_request(note.device_id, pending, APPROVED)
            if _source(caller, note.device_id) is None:
                entry.welcome(note.device_id)
            entry.change("approved", note.device_id, pending=pending)
            done = await self._ledger.commit_call(
                entry, caller, Paired(record.device_id, record.public_key, pairing)
            )
            if done is not None:
                self._store.addresses.learn(pending.limit_key)
            return done

        return await self._retry(caller, once, Paired)

    async def reject(self, caller: Caller, request_id: str) -> str:
        """Reject a request (idempotent, even if its device is removed); return its device id.

        Callers confined to their own device do not learn how a request ended.
        """

        async def once(caller: Caller) -> str | None:
            note, held = await self._read(caller, request_id, hidden=caller.confined)
            if note.state == REJECTED and not caller.confined:
                return await self._confirm(caller, held, note.device_id, note.device_id)
            entry = self._entry(caller)
            record, pending = open_request(
                request_id, note, held.record, now_ms=entry.now_ms, ttl_ms=self._ttl_ms
            )
            entry.replace(held, grants.without_pending(record), note.device_id)
            entry.end_request(note.device_id, pending, REJECTED)
            await revoke_codes(self._store, entry, [pending], caller.name)
            source = _source(caller, note.device_id)
            if source is None:
                entry.turn_away(note.device_id)
            entry.change("rejected", note.device_id, pending=pending, source=source)
            return await self._ledger.commit_call(entry, caller, note.device_id)

        return await self._retry(caller, once, str)

    async def reject_all(self, caller: Caller, request_ids: Sequence[str]) -> Rejections:
        """Reject requests in one commit (idempotent); report how the others had ended.

        For callers that can see every device.
        """
        wanted = list(dict.fromkeys(request_ids))

        async def once(caller: Caller) -> Rejections | None:
            if caller.confined:
                raise NotAllowed
            entry = self._entry(caller)
            result, writes = await plan_rejections(
                self._store, entry, wanted, self._ttl_ms, caller.name
            )
            if writes or caller.call_id or self._store.has_replicas:
                return await self._ledger.commit_call(entry, caller, result)
            return result

        return await self._retry(caller, once, Rejections)

    async def remove(self, caller: Caller, device_id: str) -> None:
        """Remove a paired device and its request; close its connections."""

        async def once(caller: Caller) -> bool | None:
            authorization.require_manage(caller, device_id, None)
            if caller.is_admin and (held := await self._held(device_id)).unreadable:
                return await self._remove_unreadable(caller, held, device_id)
            held, record, pairing = await self._paired(device_id)
            authorization.require_manage(caller, device_id, pairing)
            entry = self._entry(caller)
            entry.replace(held, None, device_id)
            if record.pending is not None:
                entry.end_request(device_id, record.pending, REJECTED)
            if _source(caller, device_id) is None:
                entry.turn_away(device_id)
            entry.change(
                "removed",
                device_id,
                closes=[EVERY_ROLE],
                scopes=pairing.scopes,
                name=pairing.operator_label or pairing.metadata.display_name,
                source=_source(caller, device_id),
            )
            return await self._ledger.commit_call(entry, caller, result=True)

        await self._retry(caller, once, bool)

    async def _remove_unreadable(
        self, caller: Caller, held: VersionedRecord, device_id: str
    ) -> bool | None:
        """Remove an unreadable record; its rights are unknown, so close all its connections."""
        entry = self._entry(caller)
        entry.replace(held, None, device_id)
        entry.forget_request(device_id)
        entry.turn_away(device_id)
        entry.change("removed", device_id, closes=[EVERY_ROLE], label="its record was unreadable")
        return await self._ledger.commit_call(entry, caller, result=True)

    async def rename(self, caller: Caller, device_id: str, label: str) -> str:
        """Set the label of a paired device; return it trimmed."""
        trimmed = label.strip()

        async def once(caller: Caller) -> str | None:
            authorization.require_manage(caller, device_id, None)
            if not trimmed or len(trimmed) > LABEL_LIMIT_CHARACTERS:
                raise InvalidLabel
            held, record, pairing = await self._paired(device_id)
            authorization.require_manage(caller, device_id, pairing)
            if pairing.operator_label == trimmed:
                return await self._record_unchanged(caller, held, device_id, trimmed)
            entry = self._entry(caller)
            after = replace(pairing, operator_label=trimmed)
            entry.replace(held, replace(record, pairing=after), device_id)
            entry.change("renamed", device_id, label=trimmed, source=_source(caller, device_id))
            return await self._ledger.commit_call(entry, caller, trimmed)

        return await self._retry(caller, once, str)

    async def rotate(
        self, caller: Caller, device_id: str, role: str, scopes: Sequence[str] | None = None
    ) -> Token:
        """Issue a new token for a role, with new scopes if given; invalidate the old one."""

        async def once(caller: Caller) -> Token | None:
            authorization.require_manage(caller, device_id, None)
            held, record, pairing = await self._paired(device_id)
            token = active_token(pairing, role)
            wanted = token.scopes if scopes is None else scopes
            authorization.require_token(caller, device_id, role, token.scopes, wanted)
            outside = first_uncovered(pairing.scopes, wanted, role)
            if outside is not None:
                raise InvalidScope(outside)
            entry = self._entry(caller)
            after = grants.rotated(pairing, role, scopes, now_ms=entry.now_ms, draws=self._draws)
            fresh = after.tokens[role]
            entry.replace(held, replace(record, pairing=after), device_id)
            entry.change(
                "rotated",
                device_id,
                closes=[role],
                role=role,
                scopes=fresh.scopes,
                source=_source(caller, device_id),
            )
            return await self._ledger.commit_call(entry, caller, fresh)

        return await self._retry(caller, once, Token)

    async def revoke(self, caller: Caller, device_id: str, role: str) -> Token:
        """Revoke the token of a role (idempotent)."""

        def require(caller: Caller, _pairing: Pairing, token: Token) -> None:
            authorization.require_token(caller, device_id, role, token.scopes, ())

        return await self._revoke(caller, device_id, role, require, confined=True)

    async def revoke_node(self, caller: Caller, device_id: str) -> None:
        """Revoke the token of the node role (idempotent), if the device has that role."""

        def require(caller: Caller, pairing: Pairing, _token: Token) -> None:
            authorization.require_remove_node(caller, pairing)

        with suppress(UnknownDevice, UnknownRole):
            await self._revoke(caller, device_id, _NODE, require, confined=False)

    async def _revoke(
        self,
        caller: Caller,
        device_id: str,
        role: str,
        require: Callable[[Caller, Pairing, Token], None],
        *,
        confined: bool,
    ) -> Token:
        async def once(caller: Caller) -> Token | None:
            if confined:
                authorization.require_manage(caller, device_id, None)
            held, record, pairing = await self._paired(device_id)
            token = pairing.tokens.get(role)
            if token is None:
                raise UnknownRole
            require(caller, pairing, token)
            if not token.active:
                return await self._record_unchanged(caller, held, device_id, token)
            entry = self._entry(caller)
            after = grants.revoked(pairing, role, now_ms=entry.now_ms)
            entry.replace(held, replace(record, pairing=after), device_id)
            if _source(caller, device_id) is None:
                entry.turn_away(device_id)
            entry.change(
                "revoked",
                device_id,
                closes=[role],
                role=role,
                scopes=token.scopes,
                source=_source(caller, device_id),
            )
            return await self._ledger.commit_call(entry, caller, after.tokens[role])

        return await self._retry(caller, once, Token)

    def _entry(self, caller: Caller) -> Transaction:
        entry = Transaction(caller.name, self._store.now_ms(), call_id=caller.call_id)
        if caller.has_record:
            entry.require(caller.device_id, caller.version)
        return entry

    async def _read(
        self, caller: Caller, request_id: str, *, hidden: bool
    ) -> tuple[RequestNote, VersionedRecord]:
        """Read the state of a request and the record of its device, if the caller may see it.

        `hidden`: do not reveal that there is no such request. If the request ended between the two
        reads, read its note again, so that the note is never older than the record.
        """
        unknown = NotAllowed if hidden else UnknownRequest
        note = await self._store.note(request_id)
        if note is None:
            raise unknown
        if caller.confined and note.device_id != caller.device_id:
            raise NotAllowed
        _head, (held,) = await self._store.load_surely([note.device_id])
        pending = held.record.pending if held.record else None
        if note.state == PENDING and (pending is None or pending.request_id != request_id):
            note = await self._store.note(request_id)
            if note is None:
                raise unknown
        if note.state == PENDING and held.unreadable:
            raise UnreadableRecord(device_key(note.device_id))
        return note, held

    async def _record_unchanged(
        self, caller: Caller, held: VersionedRecord, device_id: str, result: _Result
    ) -> _Result | None:
        """Record that a call had nothing to do, so that a late retry does nothing (R11)."""
        if not caller.call_id:
            return await self._confirm(caller, held, device_id, result)
        return await self._ledger.commit_call(
            self._unchanged(caller, held, device_id), caller, result
        )

    async def _confirm(
        self, caller: Caller, held: VersionedRecord, device_id: str, result: _Result
    ) -> _Result | None:
        """Return an earlier result; with Redis replicas, wait until one of them has it."""
        if not self._store.has_replicas:
            return result
        return await self._ledger.commit_call(
            self._unchanged(caller, held, device_id), caller, result
        )

    def _unchanged(self, caller: Caller, held: VersionedRecord, device_id: str) -> Transaction:
        entry = self._entry(caller)
        entry.require(device_id, held.version)
        return entry

    async def _retry(
        self,
        caller: Caller,
        once: Callable[[Caller], Awaitable[_Result | None]],
        kind: type[_Result],
    ) -> _Result:
        """Retry until a commit finds the records unchanged since they were read."""
        try:
            for _ in range(CONFLICTS_LIMIT):
                narrowed = await self._narrowed(caller) if caller.has_record else caller
                authorization.require_pairing(narrowed)
                authorization.require_permission(narrowed, Permission.DECIDE)
                result = await once(narrowed)
                if result is not None:
                    return result
                await asyncio.sleep(random.uniform(0, CONFLICT_PAUSE_SECONDS))  # noqa: S311 (spread)
        except StoreUnavailable:
            raise
        except RegistryError:
            # An earlier attempt of this call may have succeeded and changed the record.
            first = await self._ledger.answered(caller.call_id, kind)
            if first is None:
                raise
            return first
        message = "the record could not be changed: it kept changing concurrently"
        raise StoreUnavailable(message)


def _source(caller: Caller, device_id: str) -> Source | None:
    """Return the source of a device's change to itself; None for a decision about another."""
    own = caller.has_record and caller.device_id == device_id
    return device_source(device_id) if own else None
