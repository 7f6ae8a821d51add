"""Handlers of the operators' API. Callers are already authenticated as operators."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from msgspec import UNSET
from msgspec.structs import replace

from services.approval.backup.service import Part
from services.approval.domain.authorization import OPERATOR
from services.approval.domain.listing import PART_LIMIT, Wanted, WantedRequests, read_position
from services.approval.registry.queries import PairedPart, WantedRefusals
from services.approval.schemas import devices, lockouts
from services.approval.schemas.history import AuditPage, RestoreProgress
from services.approval.schemas.refusals import (
    OfDevice,
    RecentRefusals,
    refusal_object,
    with_refusals,
)
from services.approval.schemas.replicas import LiveReplicas, replicas_object

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    import msgspec

    from services.approval.api.parameters import (
        Approve,
        AuditQuery,
        DevicesQuery,
        RefusalsQuery,
        RejectMany,
        RequestsQuery,
        RestorePart,
    )
    from services.approval.api.parsing import Call
    from services.approval.backup.service import BackupService
    from services.approval.registry.registry import Registry


def _limit(query: RequestsQuery | DevicesQuery) -> int:
    if query.limit is not UNSET:
        return query.limit
    return sys.maxsize if query.after is UNSET and not query.q else PART_LIMIT


class Calls:
    """Implements the operations on devices, replicas, refusals, lock-outs and restores."""

    def __init__(self, registry: Registry, backups: BackupService) -> None:
        self._registry = registry
        self._backups = backups
        self.by_id: Final[Mapping[str, Callable[[Call], Awaitable[msgspec.Struct]]]] = {
            "listRequests": self._list_requests,
            "approveRequest": self._approve,
            "rejectRequest": self._reject,
            "rejectRequests": self._reject_many,
            "listDevices": self._list_devices,
            "getDevice": self._device,
            "renameDevice": self._rename,
            "removeDevice": self._remove,
            "rotateToken": self._rotate,
            "revokeToken": self._revoke,
            "readAudit": self._audit,
            "listReplicas": self._replicas,
            "listRefusals": self._refusals,
            "restorePart": self._restore,
            "listLockouts": self._list_lockouts,
            "liftLockout": self._lift_lockout,
        }

    async def _list_requests(self, call: Call) -> devices.PendingRequests:
        query: RequestsQuery = call.query
        wanted = WantedRequests(
            _limit(query),
            None if query.after is UNSET else read_position(query.after),
            query.q,
            query.address,
            0 if query.per_address is UNSET else query.per_address,
            frozenset(query.keep.split(",")),
        )
        found = devices.waiting_part_object(await self._registry.pending_part(OPERATOR, wanted))
        return replace(found, pending=await self._with_refusals(found.pending))

    async def _reject_many(self, call: Call) -> devices.RejectedMany:
        body: RejectMany = call.body
        return devices.rejections_object(
            await self._registry.reject_all(OPERATOR, body.request_ids)
        )

    async def _approve(self, call: Call) -> devices.Approved:
        body: Approve = call.body
        paired = await self._registry.approve(
            OPERATOR, call.ids.request_id, allow_admin=body.allow_admin
        )
        return devices.Approved(call.ids.request_id, devices.paired_object(paired))

    async def _reject(self, call: Call) -> devices.Rejected:
        device_id = await self._registry.reject(OPERATOR, call.ids.request_id)
        return devices.Rejected(call.ids.request_id, device_id)

    async def _list_devices(self, call: Call) -> devices.PairedDevices:
        found = devices.paired_part_object(await self._part(call.query))
        return replace(found, devices=await self._with_refusals(found.devices))

    async def _part(self, query: DevicesQuery) -> PairedPart:
        if query.ids:
            named = list(dict.fromkeys(query.ids.split(",")))
            return await self._registry.devices_named(OPERATOR, named)
        if query.limit is UNSET and query.after is UNSET and not query.q:
            return await self._registry.devices_all(OPERATOR)
        wanted = Wanted(
            _limit(query),
            None if query.after is UNSET else read_position(query.after),
            query.q,
        )
        return await self._registry.devices_part(OPERATOR, wanted)

    async def _device(self, call: Call) -> devices.PairedDevice:
        paired = await self._registry.device(OPERATOR, call.ids.device_id)
        (found,) = await self._with_refusals([devices.paired_object(paired)])
        return found

    async def _rename(self, call: Call) -> devices.Renamed:
        ids = call.ids
        label = await self._registry.rename(OPERATOR, ids.device_id, call.body.label)
        return devices.Renamed(ids.device_id, label)

    async def _remove(self, call: Call) -> devices.Removed:
        await self._registry.remove(OPERATOR, call.ids.device_id)
        return devices.Removed(call.ids.device_id)

    async def _rotate(self, call: Call) -> devices.Rotated:
        ids = call.ids
        scopes = None if call.body.scopes is UNSET else call.body.scopes
        token = await self._registry.rotate(OPERATOR, ids.device_id, ids.role, scopes)
        return devices.rotated_object(ids.device_id, ids.role, token)

    async def _revoke(self, call: Call) -> devices.Revoked:
        ids = call.ids
        token = await self._registry.revoke(OPERATOR, ids.device_id, ids.role)
        return devices.revoked_object(ids.device_id, ids.role, token)

    async def _replicas(self, _call: Call) -> LiveReplicas:
        return replicas_object(await self._registry.replicas(OPERATOR))

    async def _refusals(self, call: Call) -> RecentRefusals:
        query: RefusalsQuery = call.query
        device_id = "" if query.device_id is UNSET else query.device_id
        wanted = WantedRefusals(query.limit, device_id, only_unknown=query.of == "unknown")
        found = await self._registry.refusals(OPERATOR, wanted)
        return RecentRefusals(
            [refusal_object(one.entry, one.seen.at if one.seen else 0) for one in found]
        )

    async def _with_refusals(self, found: list[OfDevice]) -> list[OfDevice]:
        """Return these devices or requests with their recent refusals."""
        refused = await self._registry.refusals_of(OPERATOR, [one.device_id for one in found])
        return [with_refusals(one, refused[one.device_id]) for one in found]

    async def _audit(self, call: Call) -> AuditPage:
        query: AuditQuery = call.query
        after = None if query.after is UNSET else query.after
        entries = await self._registry.audit(OPERATOR, after, query.limit)
        return AuditPage(entries, entries[-1].id if entries else after or 0)

    async def _list_lockouts(self, _call: Call) -> lockouts.Lockouts:
        running = await self._registry.lockouts.running(OPERATOR)
        return lockouts.lockouts_object(running)

    async def _lift_lockout(self, call: Call) -> lockouts.LiftedLockout:
        ids = call.ids
        lifted = await self._registry.lockouts.lift(OPERATOR, ids.credential, ids.locked_address)
        return lockouts.LiftedLockout(lockouts.lockout_object(lifted))

    async def _restore(self, call: Call) -> RestoreProgress:
        body: RestorePart = call.body
        part = Part(body.backup_id, body.number, body.total, body.at, body.devices)
        progress = await self._backups.restore(OPERATOR, part)
        return RestoreProgress(progress.done, progress.skipped)
