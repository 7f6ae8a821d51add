"""What each call of the operators' API does; whoever gets here may do everything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import UNSET

from services.approval import objects
from services.approval.authority import OPERATOR
from services.approval.keeping import Part

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    import msgspec

    from services.approval.calls import Call
    from services.approval.operations import AuditQuery, RestorePart
    from services.approval.registry import Registry


class Calls:
    """Carries out the operations on devices and replicas."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.by_id: Final[Mapping[str, Callable[[Call], Awaitable[msgspec.Struct]]]] = {
            "listRequests": self._list_requests,
            "approveRequest": self._approve,
            "rejectRequest": self._reject,
            "listDevices": self._list_devices,
            "getDevice": self._device,
            "renameDevice": self._rename,
            "removeDevice": self._remove,
            "rotateToken": self._rotate,
            "revokeToken": self._revoke,
            "readAudit": self._audit,
            "listReplicas": self._replicas,
            "restorePart": self._restore,
        }

    async def _list_requests(self, _call: Call) -> objects.PendingRequests:
        waiting = await self._registry.pending(OPERATOR)
        return objects.PendingRequests([objects.waiting_object(one) for one in waiting])

    async def _approve(self, call: Call) -> objects.Approved:
        paired = await self._registry.approve(OPERATOR, call.ids.request_id)
        return objects.Approved(call.ids.request_id, objects.paired_object(paired))

    async def _reject(self, call: Call) -> objects.Rejected:
        device_id = await self._registry.reject(OPERATOR, call.ids.request_id)
        return objects.Rejected(call.ids.request_id, device_id)

    async def _list_devices(self, _call: Call) -> objects.PairedDevices:
        paired = await self._registry.devices(OPERATOR)
        return objects.PairedDevices([objects.paired_object(one) for one in paired])

    async def _device(self, call: Call) -> objects.PairedDevice:
        return objects.paired_object(await self._registry.device(OPERATOR, call.ids.device_id))

    async def _rename(self, call: Call) -> objects.Renamed:
        ids = call.ids
        label = await self._registry.rename(OPERATOR, ids.device_id, call.body.label)
        return objects.Renamed(ids.device_id, label)

    async def _remove(self, call: Call) -> objects.Removed:
        await self._registry.remove(OPERATOR, call.ids.device_id)
        return objects.Removed(call.ids.device_id)

    async def _rotate(self, call: Call) -> objects.Rotated:
        ids = call.ids
        scopes = None if call.body.scopes is UNSET else call.body.scopes
        token = await self._registry.rotate(OPERATOR, ids.device_id, ids.role, scopes)
        return objects.rotated_object(ids.device_id, ids.role, token)

    async def _revoke(self, call: Call) -> objects.Revoked:
        ids = call.ids
        token = await self._registry.revoke(OPERATOR, ids.device_id, ids.role)
        return objects.revoked_object(ids.device_id, ids.role, token)

    async def _replicas(self, _call: Call) -> objects.LiveReplicas:
        return objects.replicas_object(await self._registry.replicas(OPERATOR))

    async def _audit(self, call: Call) -> objects.AuditPage:
        query: AuditQuery = call.query
        entries = await self._registry.audit(OPERATOR, query.after, query.limit)
        return objects.AuditPage(entries, entries[-1].id if entries else query.after)

    async def _restore(self, call: Call) -> objects.RestoreProgress:
        body: RestorePart = call.body
        part = Part(body.backup_id, body.number, body.total, body.at, body.devices)
        progress = await self._registry.keeping.restore(OPERATOR, part)
        return objects.RestoreProgress(progress.done, progress.skipped)
