"""Parameters of the calls from sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from services.approval.domain.authorization import OPERATOR
from tests.support.approval.devices import READ, Device

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.integration.approval.replica import Replica

ADMIN: Final = "operator.admin"
PAIRING: Final = "operator.pairing"
WRITE: Final = "operator.write"
MAY: Final = (*READ, PAIRING)
APPROVE: Final = "device.pair.approve"
NO_PAIRING: Final = ("FORBIDDEN", "missing scope: operator.pairing")
CHANGING: Final[dict[str, str]] = {
    APPROVE: "approved",
    "device.pair.reject": "rejected",
    "device.pair.remove": "removed",
    "device.pair.rename": "renamed",
    "device.token.rotate": "rotated",
    "device.token.revoke": "revoked",
}


async def params_for(replica: Replica, method: str, target: Device) -> dict[str, Any]:
    """Return params with which a method changes a paired device."""
    if method in {APPROVE, "device.pair.reject"}:
        asked = await replica.request(target.asks((*MAY, WRITE)))
        return {"requestId": asked.request_id}
    more = {"device.pair.rename": {"label": "a label"}, "device.pair.remove": {}}
    return {"deviceId": target.device_id, **more.get(method, {"role": "operator"})}


ENDINGS: Final[dict[str, Callable[[Replica, Device], Awaitable[object]]]] = {
    "removed": lambda replica, device: replica.registry.remove(OPERATOR, device.device_id),
    "revoked": lambda replica, device: replica.registry.revoke(
        OPERATOR, device.device_id, "operator"
    ),
    "rotated": lambda replica, device: replica.registry.rotate(
        OPERATOR, device.device_id, "operator"
    ),
}
