"""JSON objects about requests and devices, shared by the HTTP API and socket methods.

They never contain tokens or token ids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import msgspec
from msgspec import UNSET, Meta, UnsetType

from services.approval.domain.identities import identities_of
from services.approval.domain.listing import write_position
from services.approval.domain.records import Count, DeviceId, Milliseconds, RequestId
from services.approval.schemas.refusals import LastRefusal, LastRefusedClaim  # noqa: TC001 (as above)
from shared.protocol.connect import Role  # noqa: TC001 (as above)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from services.approval.domain.records import Identity, Metadata, Token
    from services.approval.registry.queries import (
        Paired,
        PairedPart,
        PendingDevice,
        WaitingPart,
    )
    from services.approval.registry.rejections import Rejections


class ClaimedIdentity(
    msgspec.Struct, rename="camel", omit_defaults=True, frozen=True, kw_only=True
):
    """The identity a device claims when one of its clients connects in a role."""

    role: Role
    client_id: str
    client_mode: str
    display_name: str | UnsetType = UNSET
    platform: str
    device_family: str | UnsetType = UNSET


_Identities = Annotated[
    tuple[ClaimedIdentity, ...],
    Meta(description="All identities of the device, newest first; absent if there is only one."),
]


class PendingRequest(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True, kw_only=True):
    """A request that waits for a person. `isRepair`: the device is already paired.

    Except for `lastAskedAtMs`, everything relevant to the decision is fixed for a `requestId`.
    """

    request_id: RequestId
    device_id: DeviceId
    public_key: str
    display_name: str | UnsetType = UNSET
    platform: str
    device_family: str | UnsetType = UNSET
    client_id: str
    client_mode: str
    role: Role
    roles: tuple[Role, ...]
    scopes: tuple[str, ...]
    remote_ip: Annotated[str, Meta(description="Absent for loopback.")] | UnsetType = UNSET
    silent: bool
    is_repair: bool
    identities: _Identities | UnsetType = UNSET
    ts: Annotated[Milliseconds, Meta(description="When the request was created.")]


class WaitingRequest(PendingRequest, rename="camel", omit_defaults=True, frozen=True, kw_only=True):
    """A pending request, with the device's last attempt and recent refusals."""

    last_asked_at_ms: Annotated[
        Milliseconds, Meta(description="When its device last asked; updated at most every 10 s.")
    ]
    grants_admin: Annotated[
        bool,
        Meta(description="Whether approval grants or restores operator.admin."),
    ] = False
    last_refusal: LastRefusal | UnsetType = UNSET
    last_refused_claim: LastRefusedClaim | UnsetType = UNSET


class DeviceToken(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True, kw_only=True):
    """Metadata of a role's device token; the token itself is never shown."""

    role: Role
    scopes: tuple[str, ...]
    created_at_ms: Milliseconds
    rotated_at_ms: Milliseconds | UnsetType = UNSET
    revoked_at_ms: Milliseconds | UnsetType = UNSET
    last_used_at_ms: Milliseconds | UnsetType = UNSET
    imported_until_ms: (
        Annotated[
            Milliseconds,
            Meta(description="Until when the token it was imported with is accepted, once."),
        ]
        | UnsetType
    ) = UNSET


class PairedDevice(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True, kw_only=True):
    """A paired device: its description of itself and its approved state."""

    device_id: DeviceId
    public_key: str
    display_name: str | UnsetType = UNSET
    operator_label: str | UnsetType = UNSET
    platform: str
    device_family: str | UnsetType = UNSET
    client_id: str
    client_mode: str
    role: Role
    roles: tuple[Role, ...]
    scopes: tuple[str, ...]
    remote_ip: Annotated[str, Meta(description="Absent for loopback.")] | UnsetType = UNSET
    identities: _Identities | UnsetType = UNSET
    approved_via: str
    created_at_ms: Milliseconds
    approved_at_ms: Milliseconds
    last_seen_at_ms: (
        Annotated[Milliseconds, Meta(description="When it was last admitted.")] | UnsetType
    ) = UNSET
    last_seen_reason: str | UnsetType = UNSET
    connected: bool | UnsetType = UNSET
    replicas: (
        Annotated[tuple[str, ...], Meta(description="Boot ids of the gateways it is connected to.")]
        | UnsetType
    ) = UNSET
    tokens: tuple[DeviceToken, ...] | UnsetType = UNSET
    last_refusal: LastRefusal | UnsetType = UNSET
    last_refused_claim: LastRefusedClaim | UnsetType = UNSET


class OfAddress(msgspec.Struct, frozen=True):
    """An address with several pending requests; for IPv6, a /64."""

    address: str
    count: Count


Total = Annotated[Count, Meta(description="Number of all matches.")]
Next = Annotated[str, Meta(description="`after` of the next page; absent on the last page.")]


class PendingRequests(msgspec.Struct, omit_defaults=True, frozen=True):
    """Pending requests, newest first; `addresses`: addresses with several, most requests first."""

    pending: list[WaitingRequest]
    total: Total | UnsetType = UNSET
    next: Next | UnsetType = UNSET
    addresses: list[OfAddress] | UnsetType = UNSET


class UnreadableDevice(msgspec.Struct, rename="camel", frozen=True):
    """A device with an unreadable record; until removed, it is neither admitted nor refused."""

    device_id: str


class PairedDevices(msgspec.Struct, omit_defaults=True, frozen=True):
    """Paired devices, most recently approved first, and devices with unreadable records."""

    devices: list[PairedDevice]
    total: Total | UnsetType = UNSET
    next: Next | UnsetType = UNSET
    unreadable: list[UnreadableDevice] = []


class Approved(msgspec.Struct, rename="camel", frozen=True):
    """The request is approved; the device is admitted when it next connects."""

    request_id: RequestId
    device: PairedDevice


class Rejected(msgspec.Struct, rename="camel", frozen=True):
    """The request is rejected."""

    request_id: RequestId
    device_id: DeviceId


class EndedBefore(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True):
    """A request that had already ended, how, and the request that replaced it, if any."""

    request_id: RequestId
    state: Literal["approved", "superseded", "displaced", "expired", "unknown"]
    successor_request_id: RequestId | UnsetType = UNSET


class RejectedMany(msgspec.Struct, frozen=True):
    """The rejected requests; `ended`: requests that had already ended in another way."""

    rejected: list[Rejected]
    ended: list[EndedBefore]


class Renamed(msgspec.Struct, rename="camel", frozen=True):
    """The device's new label, trimmed."""

    device_id: DeviceId
    label: str


class Removed(msgspec.Struct, rename="camel", frozen=True):
    """The device is removed, and its connections are closed."""

    device_id: DeviceId


class Rotated(msgspec.Struct, rename="camel", frozen=True):
    """The role has a new token, sent to the device on its next connect; the old one is invalid."""

    device_id: DeviceId
    role: Role
    scopes: list[str]
    rotated_at_ms: Milliseconds
    token_delivery: Literal["withheld-cross-device"]


class Revoked(msgspec.Struct, rename="camel", frozen=True):
    """The role's token is revoked, and its connections are closed."""

    device_id: DeviceId
    role: Role
    revoked_at_ms: Milliseconds


def pending_object(waiting: PendingDevice) -> PendingRequest:
    """Return the JSON object of a pending request."""
    pending = waiting.pending
    about = pending.metadata
    return PendingRequest(
        request_id=pending.request_id,
        device_id=waiting.device_id,
        public_key=waiting.public_key,
        display_name=about.display_name or UNSET,
        platform=about.platform,
        device_family=about.device_family or UNSET,
        client_id=about.client_id,
        client_mode=about.client_mode,
        role=_role(pending.role),
        roles=_roles(pending.roles),
        scopes=pending.scopes,
        remote_ip=_remote_ip(about),
        silent=False,
        is_repair=waiting.is_repair,
        identities=_identities(identities_of(pending), role=""),
        ts=pending.created_at_ms,
    )


def waiting_object(waiting: PendingDevice) -> WaitingRequest:
    """Return the JSON object of a pending request with the additional fields of the HTTP API."""
    fields = msgspec.structs.asdict(pending_object(waiting))
    return WaitingRequest(
        **fields,
        last_asked_at_ms=waiting.pending.refreshed_at_ms,
        grants_admin=waiting.grants_admin,
    )


def pending_json(waiting: PendingDevice) -> bytes:
    """Return the JSON of a pending request."""
    return msgspec.json.encode(pending_object(waiting))


def paired_object(paired: Paired) -> PairedDevice:
    """Return the JSON object of a paired device; without presence if its standing is None."""
    pairing, standing = paired.pairing, paired.standing
    seen = standing.seen if standing else None
    about = pairing.metadata
    return PairedDevice(
        device_id=paired.device_id,
        public_key=paired.public_key,
        display_name=about.display_name or UNSET,
        operator_label=pairing.operator_label or UNSET,
        platform=about.platform,
        device_family=about.device_family or UNSET,
        client_id=about.client_id,
        client_mode=about.client_mode,
        role=_role(pairing.role),
        roles=_roles(pairing.roles),
        scopes=pairing.scopes,
        remote_ip=(seen.address or UNSET) if seen else _remote_ip(about),
        identities=_identities(identities_of(pairing), role="", display_name=""),
        approved_via=pairing.approved_via,
        created_at_ms=pairing.created_at_ms,
        approved_at_ms=pairing.approved_at_ms,
        last_seen_at_ms=seen.at if seen else UNSET,
        last_seen_reason=seen.why if seen else UNSET,
        connected=bool(standing.replicas) if standing else UNSET,
        replicas=standing.replicas if standing else UNSET,
        tokens=tuple(
            _token(role, token, seen.used.get(role, 0) if seen else 0)
            for role, token in sorted(pairing.tokens.items())
        )
        or UNSET,
    )


def waiting_part_object(part: WaitingPart) -> PendingRequests:
    """Return a page of pending requests."""
    return PendingRequests(
        [waiting_object(one) for one in part.waiting],
        part.total,
        UNSET if part.following is None else write_position(part.following),
        [OfAddress(address, count) for address, count in part.addresses] or UNSET,
    )


def paired_part_object(part: PairedPart) -> PairedDevices:
    """Return a page of paired devices."""
    return PairedDevices(
        [paired_object(one) for one in part.devices],
        part.total,
        UNSET if part.following is None else write_position(part.following),
        [UnreadableDevice(device_id) for device_id in part.unreadable],
    )


def rejections_object(rejections: Rejections) -> RejectedMany:
    """Return the result of rejecting several requests."""
    return RejectedMany(
        [Rejected(one.request_id, one.device_id) for one in rejections.rejected],
        [
            EndedBefore(one.request_id, cast("Any", one.state), one.successor or UNSET)
            for one in rejections.ended
        ],
    )


def rotated_object(device_id: str, role: str, token: Token) -> Rotated:
    """Return the result of a rotation by anyone but the device itself."""
    return Rotated(
        device_id, _role(role), sorted(token.scopes), token.rotated_at_ms, "withheld-cross-device"
    )


def revoked_object(device_id: str, role: str, token: Token) -> Revoked:
    """Return the result of a revocation."""
    return Revoked(device_id, _role(role), token.revoked_at_ms)


def _token(role: str, token: Token, used_at_ms: int) -> DeviceToken:
    return DeviceToken(
        role=_role(role),
        scopes=token.scopes,
        created_at_ms=token.created_at_ms,
        rotated_at_ms=token.rotated_at_ms or UNSET,
        revoked_at_ms=token.revoked_at_ms or UNSET,
        last_used_at_ms=used_at_ms or UNSET,
        imported_until_ms=token.imported_until_ms or UNSET,
    )


def _identities(found: tuple[Identity, ...], **but: str) -> tuple[ClaimedIdentity, ...] | UnsetType:
    """Return identities, or UNSET if they differ only in the fields given in `but`."""
    if len({msgspec.structs.replace(one, **but) for one in found}) == 1:
        return UNSET
    return tuple(
        ClaimedIdentity(
            role=_role(one.role),
            client_id=one.client_id,
            client_mode=one.client_mode,
            display_name=one.display_name or UNSET,
            platform=one.platform,
            device_family=one.device_family or UNSET,
        )
        for one in found
    )


def _role(role: str) -> Role:
    return cast("Role", role)  # gateways reject all other roles


def _roles(roles: Iterable[str]) -> tuple[Role, ...]:
    return tuple(map(_role, roles))


def _remote_ip(about: Metadata) -> str | UnsetType:
    return about.address or UNSET
