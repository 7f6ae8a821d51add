"""Converts record changes into protocol events. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.protocol.events import (
    DEVICE_CHANGED,
    DEVICE_REQUESTED,
    DEVICE_RESOLVED,
    SETUP_COMPLETED,
    SETUP_UNCERTAIN,
    Broadcast,
)
from shared.protocol.frames import encode
from shared.protocol.scopes import PAIRING

if TYPE_CHECKING:
    from shared.rpc.messages import Changed

_OF_SETUP_CODES = {
    "setup-code-delivered": SETUP_COMPLETED,
    "setup-code-delivery-uncertain": SETUP_UNCERTAIN,
}


def broadcasts(change: Changed) -> list[Broadcast]:
    """Return the broadcasts for an applied change, in order; most changes have none."""
    if change.kind == "renamed":
        return [Broadcast(DEVICE_CHANGED, b"{}", PAIRING, protocols=(4,))]
    if change.kind in _OF_SETUP_CODES:
        name = _OF_SETUP_CODES[change.kind]
        return [Broadcast(name, change.request, PAIRING, protocols=(4,))] if change.request else []
    events = []
    if change.superseded_id:
        events.append(_resolved(change, change.superseded_id, "rejected", protocols=(4,)))
    if change.kind in {"approved", "rejected"} and change.request_id:
        events.append(_resolved(change, change.request_id, change.kind))
    elif change.kind == "requested" and change.request:
        events.append(Broadcast(DEVICE_REQUESTED, change.request, PAIRING))
    return events


def _resolved(
    change: Changed, request_id: str, decision: str, *, protocols: tuple[int, ...] = (4, 3)
) -> Broadcast:
    payload = {
        "requestId": request_id,
        "deviceId": change.device_id,
        "decision": decision,
        "ts": change.at_ms,
    }
    return Broadcast(DEVICE_RESOLVED, encode(payload), PAIRING, protocols)
