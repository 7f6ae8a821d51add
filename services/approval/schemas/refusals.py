"""JSON objects of refusals, also within those of devices and requests. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import replace

from services.approval.domain.records import Milliseconds  # noqa: TC001 (msgspec reads it)
from services.approval.domain.refusal_reasons import reason_of
from services.approval.storage.heartbeats.refusals import NOTHING_REFUSED

if TYPE_CHECKING:
    from services.approval.schemas.devices import PairedDevice, WaitingRequest
    from services.approval.storage.heartbeats.refusals import Entry
    from services.approval.storage.heartbeats.refusals import OfDevice as Refused


class Refusal(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True, kw_only=True):
    """A run of attempts to connect that were refused for the same reason.

    `proven`: the attempts were this device's own, by its signature; otherwise a client only claimed
    its id.
    """

    device_id: (
        Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$", description="Absent if it sent none.")]
        | UnsetType
    ) = UNSET
    proven: bool
    undecided: Annotated[
        bool, Meta(description="No decision was possible, so this is not a refusal of the device.")
    ]
    reason: Annotated[str, Meta(description="A code, as in the gateway's log.")]
    title: Annotated[str, Meta(description="The reason as text.")]
    remedy: Annotated[str, Meta(description="What to do about it.")]
    cause: Annotated[str, Meta(description="Row of docs/reference/causes.md.")] | UnsetType = UNSET
    detail: (
        Annotated[str, Meta(description="Details, which may include text from the client.")]
        | UnsetType
    ) = UNSET
    count: Annotated[int, Meta(ge=1, description="Attempts without a pause above ten minutes.")]
    first_at_ms: Milliseconds
    last_at_ms: Milliseconds
    past: Annotated[bool, Meta(description="The device has been admitted since.")]
    remote_ip: Annotated[str, Meta(description="Absent for loopback.")] | UnsetType = UNSET
    replica: Annotated[str, Meta(description="Boot id of the gateway of the last attempt.")]
    client_id: str | UnsetType = UNSET
    display_name: str | UnsetType = UNSET


LastRefusal = Annotated[
    Refusal, Meta(description="Last refusal of the device's own attempts, within a day.")
]
LastRefusedClaim = Annotated[
    Refusal, Meta(description="Last refusal of a client that only claimed its id, within a day.")
]


class RecentRefusals(msgspec.Struct, frozen=True):
    """Refusals of the last day, newest first."""

    refusals: list[Refusal]


OfDevice = TypeVar("OfDevice", "PairedDevice", "WaitingRequest")


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
