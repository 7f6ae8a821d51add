"""The JSON objects that approval answers with (contract §7.3, §10): camelCase.

They are the same wherever they are asked for; no token and no token id is ever in one of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import msgspec
from msgspec import UNSET, Meta, UnsetType

from services.approval.domain.audit import AuditEntry  # noqa: TC001 (msgspec reads it)
from services.approval.domain.fields import Count, DeviceId, Milliseconds, RequestId
from services.approval.domain.listing import write_position
from shared.protocol.connect import Role  # noqa: TC001 (as above)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from services.approval.domain.records import Identity, Metadata, Token
    from services.approval.registry.queries import (
        Paired,
        PairedPart,
        PendingDevice,
        Replicas,
        WaitingPart,
    )
    from services.approval.registry.registry import Rejections

Version = Annotated[str, Meta(description="Its release; absent for one that does not report it.")]
Uptime = Annotated[
    int,
    Meta(ge=0, description="How long its process had been running; absent as the version is."),
]


class Refusal(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True, kw_only=True):
    """Attempts to connect that were turned away for the same reason, one after another.

    `proven`: they were this device's own, by its signature; else a client only claimed to be it.
    """

    device_id: (
        Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$", description="Absent: it named none.")]
        | UnsetType
    ) = UNSET
    proven: bool
    undecided: Annotated[
        bool, Meta(description="Nobody could say whether it may connect: this is no refusal.")
    ]
    reason: Annotated[str, Meta(description="A code, as in the gateway's log.")]
    title: Annotated[str, Meta(description="The reason in words.")]
    remedy: Annotated[str, Meta(description="What to do about it.")]
    cause: Annotated[str, Meta(description="The row of docs/troubleshooting.md.")] | UnsetType = (
        UNSET
    )
    detail: (
        Annotated[str, Meta(description="One more fact, in part the client's own words.")]
        | UnsetType
    ) = UNSET
    count: Annotated[int, Meta(ge=1, description="With pauses of ten minutes at most.")]
    first_at_ms: Milliseconds
    last_at_ms: Milliseconds
    past: Annotated[bool, Meta(description="The device was admitted after it.")]
    remote_ip: Annotated[str, Meta(description="Absent for this machine.")] | UnsetType = UNSET
    replica: Annotated[str, Meta(description="Boot id of the gateway that saw the last one.")]
    client_id: str | UnsetType = UNSET
    display_name: str | UnsetType = UNSET


LastRefusal = Annotated[
    Refusal, Meta(description="What its own attempts met in the last day, if they were refused.")
]
LastRefusedClaim = Annotated[
    Refusal, Meta(description="What those met that claimed to be it and did not prove it.")
]


class RecentRefusals(msgspec.Struct, frozen=True):
    """Who was turned away in the last day, newest first."""

    refusals: list[Refusal]


class ClaimedIdentity(
    msgspec.Struct, rename="camel", omit_defaults=True, frozen=True, kw_only=True
):
    """What a device says that it is when one of its clients connects in a role."""

    role: Role
    client_id: str
    client_mode: str
    display_name: str | UnsetType = UNSET
    platform: str
    device_family: str | UnsetType = UNSET


_Identities = Annotated[
    tuple[ClaimedIdentity, ...],
    Meta(description="All that it says it is, newest first; absent where that is one thing only."),
]


class PendingRequest(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True, kw_only=True):
    """A request that waits for a person. `isRepair`: the device is paired already.

    Nothing that a person is to look at changes under the same `requestId`, `lastAskedAtMs` apart.
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
    remote_ip: Annotated[str, Meta(description="Absent for this machine.")] | UnsetType = UNSET
    silent: bool
    is_repair: bool
    identities: _Identities | UnsetType = UNSET
    ts: Annotated[Milliseconds, Meta(description="When it was made.")]


class WaitingRequest(PendingRequest, rename="camel", omit_defaults=True, frozen=True, kw_only=True):
    """A request that waits for a person, and when its device last asked."""

    last_asked_at_ms: Annotated[
        Milliseconds, Meta(description="When its device last asked; written every 10 s at most.")
    ]
    grants_admin: Annotated[
        bool,
        Meta(description="Whether approving it gives the device operator.admin, or gives it back."),
    ] = False
    last_refusal: LastRefusal | UnsetType = UNSET
    last_refused_claim: LastRefusedClaim | UnsetType = UNSET


class DeviceToken(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True, kw_only=True):
    """What is known of a role's device token, which itself is never shown."""

    role: Role
    scopes: tuple[str, ...]
    created_at_ms: Milliseconds
    rotated_at_ms: Milliseconds | UnsetType = UNSET
    revoked_at_ms: Milliseconds | UnsetType = UNSET
    last_used_at_ms: Milliseconds | UnsetType = UNSET


class PairedDevice(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True, kw_only=True):
    """A paired device: what it says of itself, and what a person approved."""

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
    remote_ip: Annotated[str, Meta(description="Absent for this machine.")] | UnsetType = UNSET
    identities: _Identities | UnsetType = UNSET
    approved_via: str
    created_at_ms: Milliseconds
    approved_at_ms: Milliseconds
    last_seen_at_ms: (
        Annotated[Milliseconds, Meta(description="When it was let in last.")] | UnsetType
    ) = UNSET
    last_seen_reason: str | UnsetType = UNSET
    connected: bool | UnsetType = UNSET
    replicas: (
        Annotated[tuple[str, ...], Meta(description="Boot ids of the gateways it is at.")]
        | UnsetType
    ) = UNSET
    tokens: tuple[DeviceToken, ...] | UnsetType = UNSET
    last_refusal: LastRefusal | UnsetType = UNSET
    last_refused_claim: LastRefusedClaim | UnsetType = UNSET


class GatewayAlive(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True, kw_only=True):
    """A live gateway, as it was in its last beat.

    `changesBehind`: how many changes it had not applied; absent until it has learned of any.
    """

    boot_id: str
    connections: Count
    last_beat_ago_ms: Count
    changes_behind: Count | UnsetType = UNSET
    version: Version | UnsetType = UNSET
    uptime_seconds: Uptime | UnsetType = UNSET


class ApprovalAlive(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True, kw_only=True):
    """A live approval replica: its writes came through so long ago."""

    boot_id: str
    last_alive_ago_ms: Count
    version: Version | UnsetType = UNSET
    uptime_seconds: Uptime | UnsetType = UNSET


class LiveReplicas(msgspec.Struct, rename="camel", frozen=True):
    """The replicas that live: gateways with the most connections first, approvals by boot id."""

    gateways: list[GatewayAlive]
    approvals: list[ApprovalAlive]
    presence_version: Annotated[
        Count, Meta(description="Another one whenever somebody came to a gateway or left it.")
    ]
    refusals_version: Annotated[
        Count, Meta(description="Another one whenever gateways report refusals.")
    ] = 0


class OfAddress(msgspec.Struct, frozen=True):
    """An address from which several requests wait; IPv6 by its /64."""

    address: str
    count: Count


Total = Annotated[Count, Meta(description="How many there are in all, of those asked for.")]
Next = Annotated[str, Meta(description="The `after` that goes on from here; absent at the end.")]


class PendingRequests(msgspec.Struct, omit_defaults=True, frozen=True):
    """Requests that wait, newest first; `addresses`: those with several, the most first."""

    pending: list[WaitingRequest]
    total: Total | UnsetType = UNSET
    next: Next | UnsetType = UNSET
    addresses: list[OfAddress] | UnsetType = UNSET


class UnreadableDevice(msgspec.Struct, rename="camel", frozen=True):
    """A device whose record cannot be read: it is neither admitted nor refused until removed."""

    device_id: str


class PairedDevices(msgspec.Struct, omit_defaults=True, frozen=True):
    """Paired devices, the latest approved first; and those whose records cannot be read."""

    devices: list[PairedDevice]
    total: Total | UnsetType = UNSET
    next: Next | UnsetType = UNSET
    unreadable: list[UnreadableDevice] = []


class Approved(msgspec.Struct, rename="camel", frozen=True):
    """The request is approved; the device comes in when it connects next."""

    request_id: RequestId
    device: PairedDevice


class Rejected(msgspec.Struct, rename="camel", frozen=True):
    """The request is rejected."""

    request_id: RequestId
    device_id: DeviceId


class EndedBefore(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True):
    """A request that had ended before, how, and which request replaced it if one did."""

    request_id: RequestId
    state: Literal["approved", "superseded", "displaced", "expired", "unknown"]
    successor_request_id: RequestId | UnsetType = UNSET


class RejectedMany(msgspec.Struct, frozen=True):
    """These requests are rejected; `ended`: these had ended otherwise, and were left alone."""

    rejected: list[Rejected]
    ended: list[EndedBefore]


class Renamed(msgspec.Struct, rename="camel", frozen=True):
    """The device has this label now, trimmed."""

    device_id: DeviceId
    label: str


class Removed(msgspec.Struct, rename="camel", frozen=True):
    """The device is forgotten, and its connections are closed."""

    device_id: DeviceId


class Rotated(msgspec.Struct, rename="camel", frozen=True):
    """The role has a new token, which the device gets when it connects next; the old is void."""

    device_id: DeviceId
    role: Role
    scopes: list[str]
    rotated_at_ms: Milliseconds
    token_delivery: Literal["withheld-cross-device"]


class Revoked(msgspec.Struct, rename="camel", frozen=True):
    """The role's token is void, and its connections are closed."""

    device_id: DeviceId
    role: Role
    revoked_at_ms: Milliseconds


class OpenSession(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True, kw_only=True):
    """Who calls has the operators' rights, by the admin token or by a session of the page.

    `gatewayUrl`: where devices connect, as GATEWAY_PUBLIC_URL says.
    """

    expires_at_ms: (
        Annotated[Milliseconds, Meta(description="When the session ends; absent without one.")]
        | UnsetType
    ) = UNSET
    gateway_url: str | UnsetType = UNSET


class EndedSession(msgspec.Struct, frozen=True):
    """Whether there was a session; it is ended at every replica."""

    ended: bool


class RestoreProgress(msgspec.Struct, frozen=True):
    """How many devices of the backup are done by now, and how many of this part were left alone.

    Those were paired again meanwhile. The next part goes on `at` what is `done`.
    """

    done: Count
    skipped: Count


class AuditPage(msgspec.Struct, frozen=True):
    """Who did what, when, oldest first; `next` is the `after` that goes on from here.

    Without an `after` these are the newest entries, in the same order.
    """

    entries: list[AuditEntry]
    next: Annotated[int, Meta(ge=0)]


def pending_object(waiting: PendingDevice) -> PendingRequest:
    """Return the pending request object (contract §7.3)."""
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
        identities=_identities(pending.identities, role=""),
        ts=pending.created_at_ms,
    )


def waiting_object(waiting: PendingDevice) -> WaitingRequest:
    """Return a pending request as the HTTP API shows it: with when its device last asked."""
    fields = msgspec.structs.asdict(pending_object(waiting))
    return WaitingRequest(
        **fields,
        last_asked_at_ms=waiting.pending.refreshed_at_ms,
        grants_admin=waiting.grants_admin,
    )


def pending_json(waiting: PendingDevice) -> bytes:
    """Return the pending request object, encoded."""
    return msgspec.json.encode(pending_object(waiting))


def paired_object(paired: Paired) -> PairedDevice:
    """Return the paired object (contract §10); without presence where nobody asked for that."""
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
        identities=_identities(pairing.identities, role="", display_name=""),
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
    """Return a part of the requests that wait."""
    return PendingRequests(
        [waiting_object(one) for one in part.waiting],
        part.total,
        UNSET if part.following is None else write_position(part.following),
        [OfAddress(address, count) for address, count in part.addresses] or UNSET,
    )


def paired_part_object(part: PairedPart) -> PairedDevices:
    """Return a part of the paired devices."""
    return PairedDevices(
        [paired_object(one) for one in part.devices],
        part.total,
        UNSET if part.following is None else write_position(part.following),
        [UnreadableDevice(device_id) for device_id in part.unreadable],
    )


def rejections_object(rejections: Rejections) -> RejectedMany:
    """Return what became of requests that were to be rejected together."""
    return RejectedMany(
        [Rejected(one.request_id, one.device_id) for one in rejections.rejected],
        [
            EndedBefore(one.request_id, cast("Any", one.state), one.successor or UNSET)
            for one in rejections.ended
        ],
    )


def replicas_object(replicas: Replicas) -> LiveReplicas:
    """Return the replicas that live."""
    return LiveReplicas(
        [
            GatewayAlive(
                boot_id=one.boot_id,
                connections=one.connections,
                last_beat_ago_ms=one.last_beat_ago_ms,
                changes_behind=UNSET if one.behind is None else one.behind,
                version=one.process.version or UNSET,
                uptime_seconds=one.process.uptime_s if one.process.version else UNSET,
            )
            for one in replicas.gateways
        ],
        [
            ApprovalAlive(
                boot_id=one.boot_id,
                last_alive_ago_ms=one.last_alive_ago_ms,
                version=one.process.version or UNSET,
                uptime_seconds=one.process.uptime_s if one.process.version else UNSET,
            )
            for one in replicas.approvals
        ],
        replicas.presence,
        replicas.refusals,
    )


def rotated_object(device_id: str, role: str, token: Token) -> Rotated:
    """Return the result of a rotation by somebody else than the device."""
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
    )


def _identities(found: tuple[Identity, ...], **but: str) -> tuple[ClaimedIdentity, ...] | UnsetType:
    """Return identities, unless they are all the same `but` for these fields."""
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
    return cast("Role", role)  # gateways let no other in (contract §4)


def _roles(roles: Iterable[str]) -> tuple[Role, ...]:
    return tuple(map(_role, roles))


def _remote_ip(about: Metadata) -> str | UnsetType:
    return about.address or UNSET
