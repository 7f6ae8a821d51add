"""JSON for clients on sockets, for protocol versions 4 and 3.

Device objects are those of the HTTP API without fields for operators' tools; protocol 3 has fewer
fields. Nodes and presence entries have OpenClaw's format.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from services.approval.registry.queries import Replicas
from services.approval.schemas.devices import (
    PairedDevice,
    PendingRequest,
    paired_object,
    pending_object,
)
from services.approval.schemas.replicas import ApprovalAlive, GatewayAlive, replicas_object
from shared.protocol.refusals import PROTOCOL_3
from shared.version import VERSION

if TYPE_CHECKING:
    from services.approval.domain.records import Token
    from services.approval.registry.queries import Paired, PendingDevice
    from services.approval.storage.heartbeats.presence import ApprovalReplica, GatewayReplica

GATEWAY_MODE = "gateway"


class DeviceList(msgspec.Struct, frozen=True):
    """Result of `device.pair.list`."""

    pending: list[PendingRequest]
    paired: list[PairedDevice]


class RotatedToken(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True, kw_only=True):
    """Result of `device.token.rotate`; the token is included only for the device that owns it."""

    device_id: str
    role: str
    token: str | UnsetType = UNSET
    scopes: list[str]
    rotated_at_ms: int
    token_delivery: Literal["in-band", "withheld-cross-device"] | UnsetType = UNSET


class Status(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """Status of all replicas; `connectedDevices` counts each paired device once."""

    ts: int
    runtime_version: str
    connected_devices: int
    connections: int
    gateways: list[GatewayAlive]
    approvals: list[ApprovalAlive]


class PresenceEntry(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True, kw_only=True):
    """A connected device or a gateway; `ts` is when it was last seen."""

    host: str
    ip: str | UnsetType = UNSET
    platform: str | UnsetType = UNSET
    device_family: str | UnsetType = UNSET
    mode: str
    reason: str
    ts: int
    device_id: str | UnsetType = UNSET
    roles: tuple[str, ...] | UnsetType = UNSET
    scopes: tuple[str, ...] | UnsetType = UNSET
    tags: tuple[str, ...] | UnsetType = UNSET


class Node(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True, kw_only=True):
    """A paired node. Nothing is invoked on nodes here, so it has no capabilities or commands."""

    node_id: str
    display_name: str | UnsetType = UNSET
    platform: str | UnsetType = UNSET
    client_id: str
    client_mode: str
    device_family: str | UnsetType = UNSET
    remote_ip: str | UnsetType = UNSET
    caps: tuple[str, ...]
    commands: tuple[str, ...]
    last_seen_at_ms: int | UnsetType = UNSET
    last_seen_reason: str | UnsetType = UNSET
    approved_at_ms: int
    paired: bool
    connected: bool


class NodeList(msgspec.Struct, frozen=True):
    """Result of `node.list`."""

    ts: int
    nodes: list[Node]


class DescribedNode(Node, rename="camel", omit_defaults=True, frozen=True, kw_only=True):
    """Result of `node.describe`."""

    ts: int


def device_list(pending: list[PendingDevice], paired: list[Paired], protocol: int) -> DeviceList:
    """Return the result of `device.pair.list`."""
    return DeviceList(
        [pending_object(one) for one in pending], [device(one, protocol) for one in paired]
    )


def device(paired: Paired, protocol: int) -> PairedDevice:
    """Return a paired device with the fields of a protocol version."""
    found = paired_object(paired)
    tokens = [replace(one, imported_until_ms=UNSET) for one in found.tokens or ()]
    known = replace(found, replicas=UNSET, identities=UNSET, tokens=tuple(tokens) or UNSET)
    if protocol != PROTOCOL_3:
        return known
    return replace(
        known,
        connected=UNSET,
        approved_via=UNSET,
        last_seen_at_ms=UNSET,
        last_seen_reason=UNSET,
        operator_label=UNSET,
    )


def rotated(device_id: str, role: str, fresh: Token, token: str, protocol: int) -> RotatedToken:
    """Return the result of a rotation; `token` is empty unless the caller is the device itself."""
    delivery: Literal["in-band", "withheld-cross-device"] | UnsetType = UNSET
    if protocol != PROTOCOL_3:
        delivery = "in-band" if token else "withheld-cross-device"
    return RotatedToken(
        device_id=device_id,
        role=role,
        token=token or UNSET,
        scopes=sorted(fresh.scopes),
        rotated_at_ms=fresh.rotated_at_ms,
        token_delivery=delivery,
    )


def status(
    connected: int,
    gateways: list[GatewayReplica],
    approvals: list[ApprovalReplica],
    now_ms: int,
) -> Status:
    """Return the status of all replicas."""
    replicas = replicas_object(Replicas(gateways, approvals))
    return Status(
        ts=now_ms,
        runtime_version=VERSION,
        connected_devices=connected,
        connections=sum(one.connections for one in gateways),
        gateways=replicas.gateways,
        approvals=replicas.approvals,
    )


def presence(
    connected: list[Paired], gateways: list[GatewayReplica], now_ms: int
) -> list[PresenceEntry]:
    """Return the gateways and all connected devices."""
    return [
        PresenceEntry(
            host=one.boot_id,
            mode=GATEWAY_MODE,
            reason="self",
            ts=max(0, now_ms - one.last_beat_ago_ms),
        )
        for one in gateways
    ] + [_presence_entry(one, now_ms) for one in connected]


def _presence_entry(paired: Paired, now_ms: int) -> PresenceEntry:
    pairing, standing = paired.pairing, paired.standing
    seen = standing.seen if standing else None
    about = pairing.metadata
    return PresenceEntry(
        host=pairing.operator_label or about.display_name or about.client_id,
        ip=(seen.address if seen else "") or UNSET,
        platform=about.platform or UNSET,
        device_family=about.device_family or UNSET,
        mode=about.client_mode,
        reason=seen.why if seen else "connect",
        ts=seen.at if seen else now_ms,
        device_id=paired.device_id,
        roles=pairing.effective_roles,
        scopes=pairing.scopes,
        tags=tuple(f"gateway:{replica}" for replica in standing.replicas) if standing else UNSET,
    )


def node(paired: Paired) -> Node:
    """Return a paired node."""
    pairing, standing = paired.pairing, paired.standing
    seen = standing.seen if standing else None
    about = pairing.metadata
    return Node(
        node_id=paired.device_id,
        display_name=pairing.operator_label or about.display_name or UNSET,
        platform=about.platform or UNSET,
        client_id=about.client_id,
        client_mode=about.client_mode,
        device_family=about.device_family or UNSET,
        remote_ip=(seen.address if seen else "") or UNSET,
        caps=(),
        commands=(),
        last_seen_at_ms=seen.at if seen else UNSET,
        last_seen_reason=seen.why if seen else UNSET,
        approved_at_ms=pairing.approved_at_ms,
        paired=True,
        connected=bool(standing and standing.replicas),
    )


def described(paired: Paired, now_ms: int) -> DescribedNode:
    """Return the result of `node.describe`."""
    return DescribedNode(ts=now_ms, **msgspec.structs.asdict(node(paired)))
