"""JSON objects about live replicas. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from services.approval.domain.records import Count  # noqa: TC001 (msgspec reads it)

if TYPE_CHECKING:
    from services.approval.registry.queries import Replicas
    from shared.rpc.reports import UpstreamState

Version = Annotated[str, Meta(description="Release; absent if the replica does not report it.")]
Uptime = Annotated[
    int,
    Meta(ge=0, description="Uptime of its process; absent if the replica does not report it."),
]


class UpstreamSeen(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True, kw_only=True):
    """How a gateway finds the OpenClaw gateway behind it.

    `reason` says why it cannot be reached, or how its clock differs; `downSeconds` for how long
    it has been unreachable. `problems` are causes that `latchkey upstream check` explains.
    """

    reachable: bool
    version: str | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    down_seconds: Count | UnsetType = UNSET
    problems: tuple[str, ...] | UnsetType = UNSET


class GatewayAlive(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True, kw_only=True):
    """A live gateway, as of its last heartbeat.

    `changesBehind`: number of changes not yet applied; absent until the gateway has learned the
    head.
    """

    boot_id: str
    connections: Count
    last_beat_ago_ms: Count
    changes_behind: Count | UnsetType = UNSET
    version: Version | UnsetType = UNSET
    uptime_seconds: Uptime | UnsetType = UNSET
    upstream: UpstreamSeen | UnsetType = UNSET


class ApprovalAlive(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True, kw_only=True):
    """A live approval replica; `lastAliveAgoMs` is the age of its last successful write."""

    boot_id: str
    last_alive_ago_ms: Count
    version: Version | UnsetType = UNSET
    uptime_seconds: Uptime | UnsetType = UNSET


class LiveReplicas(msgspec.Struct, rename="camel", frozen=True):
    """Live replicas: gateways with the most connections first, approval replicas by boot id."""

    gateways: list[GatewayAlive]
    approvals: list[ApprovalAlive]
    presence_version: Annotated[
        Count, Meta(description="Changes with every connect and disconnect at a gateway.")
    ]
    refusals_version: Annotated[
        Count, Meta(description="Changes whenever a gateway reports refusals.")
    ] = 0


def replicas_object(replicas: Replicas) -> LiveReplicas:
    """Return the live replicas."""
    return LiveReplicas(
        [
            GatewayAlive(
                boot_id=one.boot_id,
                connections=one.connections,
                last_beat_ago_ms=one.last_beat_ago_ms,
                changes_behind=UNSET if one.behind is None else one.behind,
                version=one.process.version or UNSET,
                uptime_seconds=one.process.uptime_s if one.process.version else UNSET,
                upstream=UNSET if one.upstream is None else _upstream_object(one.upstream),
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


def _upstream_object(upstream: UpstreamState) -> UpstreamSeen:
    return UpstreamSeen(
        reachable=upstream.reachable,
        version=upstream.version or UNSET,
        reason=upstream.reason or UNSET,
        down_seconds=UNSET if upstream.reachable else max(0, upstream.down_s),
        problems=tuple(upstream.problems) or UNSET,
    )
