"""JSON objects of refusals, also within those of devices and requests. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from services.approval.domain.refusal_reasons import reason_of
from services.approval.schemas.devices import PairedDevice, Refusal, WaitingRequest
from services.approval.storage.refusals import NOTHING_REFUSED

if TYPE_CHECKING:
    from services.approval.storage.refusals import Entry
    from services.approval.storage.refusals import OfDevice as Refused

OfDevice = TypeVar("OfDevice", PairedDevice, WaitingRequest)


def refusal_object(entry: Entry, seen_at_ms: int) -> Refusal:
    """Return the JSON object of a refusal; `seen_at_ms`: last admission of its device, or 0."""
    reason = reason_of(entry.reason, undecided=entry.undecided)
    return Refusal(
        device_id=entry.device or UNSET,
        proven=entry.proven,
        undecided=entry.undecided,
        reason=reason.code,
        title=reason.title,
        remedy=reason.remedy,
        cause=reason.cause or UNSET,
        detail=entry.detail or UNSET,
        count=entry.count,
        first_at_ms=entry.first,
        last_at_ms=entry.at,
        past=seen_at_ms >= entry.at,
        remote_ip=entry.address or UNSET,
        replica=entry.replica,
        client_id=entry.client or UNSET,
        display_name=entry.name or UNSET,
    )


def with_refusals(of: OfDevice, refused: Refused) -> OfDevice:
    """Return a device or request with its recent refusals."""
    if refused == NOTHING_REFUSED:
        return of
    seen = getattr(of, "last_seen_at_ms", UNSET)
    seen_at_ms = seen if isinstance(seen, int) else 0

    def shown(entry: Entry | None) -> Refusal | UnsetType:
        return UNSET if entry is None else refusal_object(entry, seen_at_ms)

    return replace(
        of, last_refusal=shown(refused.proven), last_refused_claim=shown(refused.claimed)
    )
