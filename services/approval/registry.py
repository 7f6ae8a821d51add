"""The one door to the records: whoever wants something of them comes through here.

The API, the page, the command and the socket all call these methods with a Caller, and the rights
are checked here, so that no way in can forget them. Rules are in `policy`, rights in `authority`.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from services.approval import authority, policy
from services.approval.errors import (
    InvalidLabel,
    InvalidScope,
    NotAllowed,
    RequestOver,
    StoreUnavailable,
    UnknownDevice,
    UnknownRequest,
    UnknownRole,
)
from services.approval.ledger import Entry, Ledger
from services.approval.records import APPROVED, EXPIRED, PENDING, REJECTED
from shared.messages import EVERY_ROLE
from shared.protocol.limits import LABEL_LIMIT_CHARACTERS
from shared.protocol.scopes import first_uncovered

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from services.approval.authority import Caller
    from services.approval.plan import AuditEntry
    from services.approval.policy import Draws
    from services.approval.presence import ApprovalReplica, GatewayReplica, Standing
    from services.approval.records import Pairing, Pending, Record, RequestNote, Token
    from services.approval.store import Followed, Held, Store
    from shared.messages import Change

CONFLICTS_LIMIT: Final = 32
"""How often a commit is tried again because somebody else was quicker."""
CONFLICT_PAUSE_SECONDS: Final = 0.004
"""Most of the random pause before it is."""

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Paired:
    """A paired device."""

    device_id: str
    public_key: str
    pairing: Pairing
    standing: Standing | None = None
    """Where it is and when it was seen; None where nobody asked for that."""


@dataclass(frozen=True, slots=True)
class Replicas:
    """The replicas that live."""

    gateways: list[GatewayReplica]
    approvals: list[ApprovalReplica]


@dataclass(frozen=True, slots=True)
class Waiting:
    """A device whose request waits; `is_repair`: it is paired already."""

    device_id: str
    public_key: str
    pending: Pending
    is_repair: bool


class Registry:
    """Reads and changes the records of devices. Every method may raise RegistryError."""

    def __init__(self, store: Store, ledger: Ledger, draws: Draws, *, ttl_ms: int) -> None:
        self._store = store
        self._ledger = ledger
        self._draws = draws
        self._ttl_ms = ttl_ms

    async def pending(self, caller: Caller) -> list[Waiting]:
        """Return the requests that wait, newest first."""
        authority.require_pairing(caller)
        now_ms = self._store.now_ms()
        found = [
            Waiting(record.device_id, record.public_key, record.pending, record.pairing is not None)
            for record in await self._store.pending()
            if record.pending is not None
            and not record.pending.expired(now_ms, self._ttl_ms)
            and authority.sees(caller, record.device_id)
        ]
        return sorted(found, key=lambda one: -one.pending.created_at_ms)

    async def devices(self, caller: Caller) -> list[Paired]:
        """Return the paired devices, the latest approved first."""
        authority.require_pairing(caller)
        records = [
            record
            for record in await self._store.paired()
            if record.pairing is not None and authority.sees(caller, record.device_id)
        ]
        standings = await self._store.presence.standings([one.device_id for one in records])
        return [
            _paired(record, standing) for record, standing in zip(records, standings, strict=True)
        ]

    async def device(self, caller: Caller, device_id: str) -> Paired:
        """Return one paired device; raises UnknownDevice."""
        authority.require_pairing(caller)
        authority.require_manage(caller, device_id, None)
        _held, record, _pairing = await self._paired(device_id)
        (standing,) = await self._store.presence.standings([device_id])
        return _paired(record, standing)

    async def replicas(self, caller: Caller) -> Replicas:
        """Return the replicas that live; for operators only."""
        if not caller.is_admin:
            raise NotAllowed
        head, _held = await self._store.load([])
        presence = self._store.presence
        return Replicas(await presence.gateways(head), await presence.approvals())

    async def present(self, caller: Caller) -> Change:
        """Return the newest change, to follow history from there; for operators only."""
        if not caller.is_admin:
            raise NotAllowed
        head, _held = await self._store.load([])
        return head

    async def follow(self, caller: Caller, place: Change, most: int) -> Followed:
        """Return the audit entries after a place in history; for operators only."""
        if not caller.is_admin:
            raise NotAllowed
        return await self._store.follow(place, most)

    async def audit(self, caller: Caller, after: int, limit: int) -> list[AuditEntry]:
        """Return audit entries above a change number, oldest first; for operators only."""
        if not caller.is_admin:
            raise NotAllowed
        return await self._store.audit(after, limit)

    async def approve(self, caller: Caller, request_id: str) -> Paired:
        """Approve a request; again: the same device, and nothing is done."""
        authority.require_pairing(caller)

        async def once() -> Paired | None:
            note, held = await self._read(request_id, hidden=not caller.is_admin)
            if not authority.sees(caller, note.device_id):
                raise NotAllowed
            if note.state == APPROVED:
                return self._approved_before(note, held)
            record, pending = self._open(request_id, note, held)
            to_hold = policy.scopes_to_hold(record, pending)
            authority.require_approve(caller, note.device_id, pending, to_hold)
            outside = policy.scope_outside_roles(pending)
            if outside is not None:
                raise InvalidScope(outside)
            entry = self._entry(caller)
            after = policy.approved(record, pending, now_ms=entry.now_ms, draws=self._draws)
            entry.replace(held, after, note.device_id)
            entry.end_request(note.device_id, pending, APPROVED)
            entry.change("approved", note.device_id, pending=pending)
            return await self._committed(entry, _paired(after))

        return await self._settled(once)

    async def reject(self, caller: Caller, request_id: str) -> str:
        """Reject a request; returns its device id. Again: the same, and nothing is done."""
        authority.require_pairing(caller)

        async def once() -> str | None:
            note, held = await self._read(request_id, hidden=caller.confined)
            authority.require_reject(caller, note.device_id)
            if note.state == REJECTED:
                return note.device_id
            record, pending = self._open(request_id, note, held)
            entry = self._entry(caller)
            entry.replace(held, policy.without_pending(record), note.device_id)
            entry.end_request(note.device_id, pending, REJECTED)
            entry.change("rejected", note.device_id, pending=pending)
            return await self._committed(entry, note.device_id)

        return await self._settled(once)

    async def remove(self, caller: Caller, device_id: str) -> None:
        """Forget a paired device, with whatever it asked for; its live sockets are closed."""
        authority.require_pairing(caller)
        authority.require_manage(caller, device_id, None)

        async def once() -> bool | None:
            held, record, pairing = await self._paired(device_id)
            authority.require_manage(caller, device_id, pairing)
            entry = self._entry(caller)
            entry.replace(held, None, device_id)
            if record.pending is not None:
                entry.end_request(device_id, record.pending, REJECTED)
            entry.change("removed", device_id, closes=[EVERY_ROLE], scopes=pairing.scopes)
            return await self._committed(entry, result=True)

        await self._settled(once)

    async def rename(self, caller: Caller, device_id: str, label: str) -> str:
        """Give a paired device a label; returns it trimmed."""
        authority.require_pairing(caller)
        authority.require_manage(caller, device_id, None)
        trimmed = label.strip()
        if not trimmed or len(trimmed) > LABEL_LIMIT_CHARACTERS:
            raise InvalidLabel

        async def once() -> str | None:
            held, record, pairing = await self._paired(device_id)
            authority.require_manage(caller, device_id, pairing)
            if pairing.operator_label == trimmed:
                return trimmed
            entry = self._entry(caller)
            entry.replace(held, policy.renamed(record, pairing, trimmed), device_id)
            entry.change("renamed", device_id, label=trimmed)
            return await self._committed(entry, trimmed)

        return await self._settled(once)

    async def rotate(
        self, caller: Caller, device_id: str, role: str, scopes: Sequence[str] | None = None
    ) -> Token:
        """Draw a new token for a role, in other scopes if given; the old one is void at once."""
        authority.require_pairing(caller)

        async def once() -> Token | None:
            held, record, pairing = await self._paired(device_id)
            token = _active_token(pairing, role)
            wanted = token.scopes if scopes is None else scopes
            authority.require_token(caller, device_id, role, token.scopes, wanted)
            outside = first_uncovered(pairing.scopes, wanted, role)
            if outside is not None:
                raise InvalidScope(outside)
            entry = self._entry(caller)
            after = policy.rotated(
                record, pairing, role, scopes, now_ms=entry.now_ms, draws=self._draws
            )
            fresh = _paired(after).pairing.tokens[role]
            entry.replace(held, after, device_id)
            entry.change("rotated", device_id, closes=[role], role=role, scopes=fresh.scopes)
            return await self._committed(entry, fresh)

        return await self._settled(once)

    async def revoke(self, caller: Caller, device_id: str, role: str) -> Token:
        """Revoke the token of a role; again: the same, and nothing is done."""
        authority.require_pairing(caller)

        async def once() -> Token | None:
            held, record, pairing = await self._paired(device_id)
            token = pairing.tokens.get(role)
            if token is None:
                raise UnknownRole
            authority.require_token(caller, device_id, role, token.scopes, ())
            if not token.active:
                return token
            entry = self._entry(caller)
            after = policy.revoked(record, pairing, role, now_ms=entry.now_ms)
            entry.replace(held, after, device_id)
            entry.change("revoked", device_id, closes=[role], role=role, scopes=token.scopes)
            return await self._committed(entry, _paired(after).pairing.tokens[role])

        return await self._settled(once)

    async def expire(self, most: int) -> int:
        """End requests that nobody asked for any more; returns how many."""
        ended = 0
        for device_id in await self._store.expired(self._store.now_ms(), most):
            held = await self._held(device_id)
            entry = Entry("expiry", self._store.now_ms())
            pending = held.record.pending if held.record else None
            if held.record is None or pending is None:
                continue
            if not pending.expired(entry.now_ms, self._ttl_ms):
                continue
            entry.replace(held, policy.without_pending(held.record), device_id)
            entry.end_request(device_id, pending, EXPIRED)
            entry.change("expired", device_id, pending=pending)
            committed = await self._ledger.commit(entry)
            ended += committed.outcome == "done"
        return ended

    def _entry(self, caller: Caller) -> Entry:
        return Entry(caller.name, self._store.now_ms())

    async def _held(self, device_id: str) -> Held:
        _head, held = await self._store.load([device_id])
        return held[0]

    async def _paired(self, device_id: str) -> tuple[Held, Record, Pairing]:
        held = await self._held(device_id)
        if held.record is None or held.record.pairing is None:
            raise UnknownDevice
        return held, held.record, held.record.pairing

    async def _read(self, request_id: str, *, hidden: bool) -> tuple[RequestNote, Held]:
        """Read what is known of a request, and the record of its device.

        A request that ended between the two reads is looked up again: the note is never older.
        """
        note = await self._note(request_id, hidden=hidden)
        held = await self._held(note.device_id)
        pending = held.record.pending if held.record else None
        if note.state == PENDING and (pending is None or pending.request_id != request_id):
            note = await self._note(request_id, hidden=hidden)
        return note, held

    async def _note(self, request_id: str, *, hidden: bool) -> RequestNote:
        """Read what is known of a request; `hidden`: the caller may not learn there is none."""
        note = await self._store.note(request_id)
        if note is None:
            raise NotAllowed if hidden else UnknownRequest
        return note

    def _open(self, request_id: str, note: RequestNote, held: Held) -> tuple[Record, Pending]:
        """Return the record and the request it still holds; raises RequestOver."""
        pending = held.record.pending if held.record else None
        if note.state != PENDING or held.record is None or pending is None:
            raise RequestOver(note.state if note.state != PENDING else EXPIRED, note.successor)
        if pending.request_id != request_id:
            raise RequestOver("superseded", pending.request_id)
        if pending.expired(self._store.now_ms(), self._ttl_ms):
            raise RequestOver(EXPIRED)
        return held.record, pending

    def _approved_before(self, note: RequestNote, held: Held) -> Paired:
        if held.record is None or held.record.pairing is None:
            raise RequestOver(note.state)
        return _paired(held.record)

    async def _committed(self, entry: Entry, result: _Result) -> _Result | None:
        """Commit; None when somebody else was quicker and all must be looked at anew."""
        committed = await self._ledger.commit(entry)
        return result if committed.outcome == "done" else None

    async def _settled(self, once: Callable[[], Awaitable[_Result | None]]) -> _Result:
        """Try until a commit meets the records as they were read."""
        for _ in range(CONFLICTS_LIMIT):
            result = await once()
            if result is not None:
                return result
            await asyncio.sleep(random.uniform(0, CONFLICT_PAUSE_SECONDS))  # noqa: S311 (spread)
        message = "the record changed again and again while it was being changed"
        raise StoreUnavailable(message)


def _paired(record: Record, standing: Standing | None = None) -> Paired:
    if record.pairing is None:
        raise UnknownDevice
    return Paired(record.device_id, record.public_key, record.pairing, standing)


def _active_token(pairing: Pairing, role: str) -> Token:
    token = pairing.tokens.get(role)
    if token is None or not token.active:
        raise UnknownRole
    return token
