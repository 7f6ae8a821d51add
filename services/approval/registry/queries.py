"""Read access to device records, with authorization."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from services.approval.domain import authorization
from services.approval.domain import pairing as grants
from services.approval.domain.errors import UnknownDevice, UnreadableRecord
from services.approval.domain.identities import as_seen
from services.approval.domain.listing import PageCursor, finds_device, part_of_requests
from services.approval.domain.records import Pairing, Pending  # noqa: TC001 (as above)
from services.approval.storage.heartbeats.presence import Standing
from services.approval.storage.keys import device_key
from shared.protocol.scopes import ADMIN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.approval.domain.authorization import Caller
    from services.approval.domain.listing import Wanted, WantedRequests
    from services.approval.domain.records import AuditEntry, LastSeen, Record, VersionedRecord
    from services.approval.storage.changes.changelog import Followed
    from services.approval.storage.heartbeats.presence import ApprovalReplica, GatewayReplica
    from services.approval.storage.heartbeats.refusals import Entry as RefusalEntry
    from services.approval.storage.heartbeats.refusals import OfDevice as RefusedDevice
    from services.approval.storage.store import Store
    from shared.rpc.messages import Position


SEARCHED_AT_ONCE: Final = 250
"""Devices that a search reads per batch."""


class Paired(msgspec.Struct, frozen=True):
    """A paired device; `standing` is None if presence was not requested."""

    device_id: str
    public_key: str
    pairing: Pairing
    standing: Standing | None = None


@dataclass(frozen=True, slots=True)
class Replicas:
    """The live replicas.

    `presence` is a counter of connects and disconnects, `refusals` one of reports of refusals, so
    that clients can detect changes. Both are 0 if not requested.
    """

    gateways: list[GatewayReplica]
    approvals: list[ApprovalReplica]
    presence: int = 0
    refusals: int = 0


@dataclass(frozen=True, slots=True)
class PendingDevice:
    """A device with a pending request; `is_repair`: it is already paired.

    `grants_admin`: approval grants or restores operator.admin.
    """

    device_id: str
    public_key: str
    pending: Pending
    is_repair: bool
    grants_admin: bool = False


@dataclass(frozen=True, slots=True)
class WaitingPart:
    """A page of pending requests, newest first; the other fields are as in `listing.Requests`."""

    waiting: list[PendingDevice]
    total: int
    following: PageCursor | None
    addresses: list[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class PairedPart:
    """A page of paired devices, most recently approved first.

    `total` counts all matches; `following` is the cursor of the next page. `unreadable` lists
    devices whose records cannot be read; searches do not find them.
    """

    devices: list[Paired]
    total: int
    following: PageCursor | None
    unreadable: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class WantedRefusals:
    """Filter for refusals: of one device if given, or only of unknown clients."""

    limit: int
    device_id: str = ""
    only_unknown: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """Refused attempts, and when their device was last admitted."""

    entry: RefusalEntry
    seen: LastSeen | None


class Queries:
    """Reads device records. Every method may raise RegistryError."""

    def __init__(self, store: Store, *, ttl_ms: int) -> None:
        self._store = store
        self._ttl_ms = ttl_ms

    async def pending(self, caller: Caller) -> list[PendingDevice]:
        """Return the pending requests, newest first."""
        found = [_waiting(record, pending) for record, pending in await self._pending(caller)]
        return sorted(found, key=lambda one: -one.pending.created_at_ms)

    async def pending_part(self, caller: Caller, wanted: WantedRequests) -> WaitingPart:
        """Return a page of pending requests, newest first."""
        found = await self._pending(caller)
        part = part_of_requests(
            [
                (record.device_id, pending, record.pairing.operator_label if record.pairing else "")
                for record, pending in found
            ],
            wanted,
        )
        waiting = [_waiting(*found[place]) for place in part.places]
        return WaitingPart(waiting, part.total, part.following, part.addresses)

    async def devices(self, caller: Caller) -> list[Paired]:
        """Return the paired devices, most recently approved first."""
        return (await self.devices_all(caller)).devices

    async def devices_all(self, caller: Caller) -> PairedPart:
        """Return all paired devices as one page."""
        caller = await self._narrowed(caller)
        authorization.require_pairing(caller)
        found = await self._store.paired()
        records = [
            record
            for record in found.records
            if record.pairing is not None and authorization.can_see(caller, record.device_id)
        ]
        devices = await self._standing(records)
        unreadable: list[str] = []
        if caller.is_admin:
            unreadable = [*found.unreadable, *await self._unreadable_requests(found.unreadable)]
        return PairedPart(devices, len(devices), None, unreadable)

    async def devices_part(self, caller: Caller, wanted: Wanted) -> PairedPart:
        """Return a page of paired devices; without a search, only that page is read."""
        caller = await self._narrowed(caller)
        authorization.require_pairing(caller)
        if wanted.search or caller.confined:
            return await self._searched(caller, wanted)
        total = await self._store.count_paired()
        positions = await self._store.paired_after(wanted.after, wanted.limit + 1)
        listed = positions[: wanted.limit]
        found = await self._store.records([one.id for one in listed])
        devices = await self._standing([one for one in found.records if one.pairing is not None])
        more = len(positions) > wanted.limit
        unreadable = list(found.unreadable)
        if wanted.after is None:
            unreadable += await self._unreadable_requests(unreadable)
        return PairedPart(devices, total, listed[-1] if more else None, unreadable)

    async def devices_named(self, caller: Caller, device_ids: Sequence[str]) -> PairedPart:
        """Return the given devices that are paired, in the given order."""
        caller = await self._narrowed(caller)
        authorization.require_pairing(caller)
        visible = [one for one in device_ids if authorization.can_see(caller, one)]
        found = await self._store.records(visible)
        devices = await self._standing([one for one in found.records if one.pairing is not None])
        return PairedPart(devices, len(devices), None, found.unreadable)

    async def _unreadable_requests(self, but: Sequence[str]) -> list[str]:
        """Return further devices with unreadable records, from the index of requests."""
        found = (await self._store.pending()).unreadable
        return [one for one in found if one not in but]

    async def device(self, caller: Caller, device_id: str) -> Paired:
        """Return one paired device; raises UnknownDevice."""
        caller = await self._narrowed(caller)
        authorization.require_pairing(caller)
        authorization.require_manage(caller, device_id, None)
        _held, record, _pairing = await self._paired(device_id)
        (standing,) = await self._store.presence.standings([device_id])
        return paired(record, standing)

    async def connected(self, caller: Caller) -> tuple[list[Paired], list[GatewayReplica]]:
        """Return the paired devices that are connected, and the live gateways."""
        caller = await self._narrowed(caller)
        authorization.require_read(caller)
        found = (await self._store.paired()).records
        records = [record for record in found if record.pairing is not None]
        devices = await self._standing(records)
        gateways = await self._store.presence.gateways(await self.head())
        return [one for one in devices if one.standing and one.standing.replicas], gateways

    async def nodes(self, caller: Caller) -> list[Paired]:
        """Return the paired devices with the role node, connected ones first."""
        caller = await self._narrowed(caller)
        authorization.require_read(caller)
        records = [
            record
            for record in (await self._store.paired()).records
            if record.pairing is not None and "node" in record.pairing.effective_roles
        ]
        return sorted(
            await self._standing(records),
            key=lambda one: (
                not (one.standing and one.standing.replicas),
                one.pairing.metadata.display_name.lower() or one.device_id,
                one.device_id,
            ),
        )

    async def replicas(self, caller: Caller) -> Replicas:
        """Return the live replicas; for operators only."""
        authorization.require_admin(caller)
        presence = self._store.presence
        version = await presence.version()  # read first, so it is never newer than the data
        refusals = await self._store.refusals.version()
        gateways = await presence.gateways(await self.head())
        return Replicas(gateways, await presence.approvals(), version, refusals)

    async def present(self, caller: Caller) -> Position:
        """Return the position of the newest change, to follow from; for operators only."""
        authorization.require_admin(caller)
        return await self.head()

    async def head(self) -> Position:
        """Return the position of the newest change; it reveals nothing about the change."""
        head, _held = await self._store.load([])
        return head

    async def follow(self, caller: Caller, place: Position, limit: int) -> Followed:
        """Return the audit entries after a position; for operators only."""
        authorization.require_admin(caller)
        return await self._store.audit_log.follow(place, limit)

    async def audit(self, caller: Caller, after: int | None, limit: int) -> list[AuditEntry]:
        """Return the first audit entries after a number, or the newest if it is None.

        Oldest first; for operators only.
        """
        authorization.require_admin(caller)
        if after is None:
            return await self._store.audit_log.newest(limit)
        return await self._store.audit_log.read(after, limit)

    async def refusals(self, caller: Caller, wanted: WantedRefusals) -> list[Refused]:
        """Return recent refusals, newest first; for operators only."""
        authorization.require_admin(caller)
        kept = self._store.refusals
        if wanted.device_id:
            entries = await kept.of_device(wanted.device_id, wanted.limit)
        else:
            entries = await kept.recent(wanted.limit, only_unknown=wanted.only_unknown)
        named = list({one.device for one in entries if one.device})
        seen = dict(zip(named, await self._store.presence.last_seen(named), strict=True))
        return [Refused(one, seen.get(one.device)) for one in entries]

    async def refusals_of(
        self, caller: Caller, device_ids: Sequence[str]
    ) -> dict[str, RefusedDevice]:
        """Return the recent refusals of each of these devices; for operators only."""
        authorization.require_admin(caller)
        found = await self._store.refusals.of_devices(device_ids)
        return dict(zip(device_ids, found, strict=True))

    async def _pending(self, caller: Caller) -> list[tuple[Record, Pending]]:
        """Return records with a pending request visible to the caller, with that request."""
        caller = await self._narrowed(caller)
        authorization.require_pairing(caller)
        now_ms = self._store.now_ms()
        return [
            (record, record.pending)
            for record in (await self._store.pending()).records
            if record.pending is not None
            and not record.pending.expired(now_ms, self._ttl_ms)
            and authorization.can_see(caller, record.device_id)
        ]

    async def _searched(self, caller: Caller, wanted: Wanted) -> PairedPart:
        """Search all paired devices, in batches so that the event loop is not blocked."""
        after: PageCursor | None = None
        found: list[Record] = []
        following: PageCursor | None = None
        last: PageCursor | None = None
        total = 0
        while positions := await self._store.paired_after(after, SEARCHED_AT_ONCE):
            after = positions[-1]
            ids = [position.id for position in positions]
            by_id = {one.device_id: one for one in (await self._store.records(ids)).records}
            seen = await self._store.presence.last_seen(ids)
            for position, its_last in zip(positions, seen, strict=True):
                record = by_id.get(position.id)
                if record is None or record.pairing is None:
                    continue
                if not authorization.can_see(caller, record.device_id):
                    continue
                shown = paired(record, Standing((), its_last)).pairing
                address = its_last.address if its_last else ""
                if not finds_device(wanted.search, record.device_id, shown, address):
                    continue
                total += 1
                if wanted.after is not None and position >= wanted.after:
                    continue
                if len(found) < wanted.limit:
                    found.append(record)
                    last = position
                else:
                    following = last
        return PairedPart(await self._standing(found), total, following)

    async def narrowed(self, caller: Caller) -> Caller:
        """Return a caller with only the scopes that its own record grants (R12)."""
        return await self._narrowed(caller)

    async def _narrowed(self, caller: Caller) -> Caller:
        """Restrict a socket's caller to its own record, not the gateway's last view of it (R12)."""
        if not caller.has_record:
            return caller
        held = await self._held(caller.device_id)
        if held.unreadable:
            raise UnreadableRecord(device_key(caller.device_id))
        return authorization.restrict(caller, str(held.version), held.record)

    async def _standing(self, records: list[Record]) -> list[Paired]:
        standings = await self._store.presence.standings([one.device_id for one in records])
        return [
            paired(record, standing) for record, standing in zip(records, standings, strict=True)
        ]

    async def _held(self, device_id: str) -> VersionedRecord:
        _head, held = await self._store.load_surely([device_id])
        return held[0]

    async def _paired(self, device_id: str) -> tuple[VersionedRecord, Record, Pairing]:
        held = await self._held(device_id)
        if held.unreadable:
            raise UnreadableRecord(device_key(device_id))
        if held.record is None or held.record.pairing is None:
            raise UnknownDevice
        return held, held.record, held.record.pairing


def _waiting(record: Record, pending: Pending) -> PendingDevice:
    return PendingDevice(
        record.device_id,
        record.public_key,
        pending,
        is_repair=record.pairing is not None,
        grants_admin=ADMIN in grants.scopes_to_hold(record, pending),
    )


def paired(record: Record, standing: Standing | None = None) -> Paired:
    """Return a record as a paired device; raises UnknownDevice.

    Given its standing, the device has the name and platform it was last seen with.
    """
    pairing = record.pairing
    if pairing is None:
        raise UnknownDevice
    if standing is not None and standing.seen is not None:
        pairing = msgspec.structs.replace(pairing, metadata=as_seen(pairing, standing.seen))
    return Paired(record.device_id, record.public_key, pairing, standing)
