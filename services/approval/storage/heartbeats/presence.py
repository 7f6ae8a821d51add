"""Presence as written by heartbeats: connected devices, last admissions and live replicas.

Presence is not part of history: it has no change numbers and no audit entries. It is removed with
the device or with the gateway that reported it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
from redis.exceptions import ResponseError

from services.approval.domain.records import LastSeen
from services.approval.storage.keys import seen_key
from services.approval.storage.redis import reaching_redis
from shared.addresses.client import is_loopback
from shared.protocol.limits import DISPLAY_NAME_LIMIT_CHARACTERS
from shared.protocol.platforms import VERSIONED_CLIENTS
from shared.rpc.messages import DEVICE_TOKEN
from shared.rpc.reports import UpstreamState
from shared.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from shared.rpc.messages import HeartbeatQuestion, Position
    from shared.rpc.reports import Seen

GATEWAYS: Final = "latchkey:gateways"
"""Sorted set: boot ids of gateways by when their presence expires, ms."""
APPROVALS: Final = "latchkey:approvals"
"""Sorted set: boot ids of approval replicas by when each last reported to be alive, ms."""
PRESENCE_VERSION: Final = "latchkey:presence-version"
"""Counter of connects and disconnects at all gateways."""
ALIVE_KEPT_MS: Final = 5_000
"""An approval replica silent for this long is no longer listed."""
PRESENCE_KEPT_MAX_MS: Final = 600_000
"""Presence is kept for the length of the gateway's lease, but no longer than this."""
CONNECT: Final = "connect"
"""Why a device was seen: it was admitted, by whichever credential."""

_OF_GATEWAY: Final = ("count", "seen", "applied", "version", "uptime", "upstream")
"""Fields of a gateway's presence; heartbeat.lua says what is in them."""
_encode: Final = msgspec.msgpack.Encoder().encode


def presence_key(boot_id: str) -> str:
    """Return the key of a gateway's presence hash; heartbeat.lua documents its fields."""
    return f"latchkey:presence:{boot_id}"


def approval_key(boot_id: str) -> str:
    """Return the key of an approval replica's release and uptime; it expires with its listing."""
    return f"latchkey:approval:{boot_id}"


_decode_last_seen: Final = msgspec.msgpack.Decoder(LastSeen).decode


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a device is connected (boot ids of gateways), and when it was last seen."""

    replicas: tuple[str, ...]
    seen: LastSeen | None


class ReplicaProcess(msgspec.Struct, frozen=True, omit_defaults=True):
    """A replica's release and uptime.

    Both are empty for a replica of a release that does not report them.
    """

    version: str = ""
    uptime_s: int = 0


_decode_process: Final = msgspec.msgpack.Decoder(ReplicaProcess).decode
_decode_upstream: Final = msgspec.msgpack.Decoder(UpstreamState).decode
_UNREPORTED: Final = ReplicaProcess()


@dataclass(frozen=True, slots=True)
class GatewayReplica:
    """A live gateway; `behind` (in changes) is None until the gateway has learned the head."""

    boot_id: str
    connections: int
    last_beat_ago_ms: int
    behind: int | None
    process: ReplicaProcess
    upstream: UpstreamState | None = None


@dataclass(frozen=True, slots=True)
class ApprovalReplica:
    """A live approval replica."""

    boot_id: str
    last_alive_ago_ms: int
    process: ReplicaProcess


class Presence:
    """Reads presence. Every method may raise StoreUnavailable."""

    def __init__(self, client: Redis) -> None:
        self._client: Any = client  # its types allow bytes and str; all values here are bytes

    async def standings(self, device_ids: Sequence[str]) -> list[Standing]:
        """Return where these devices are connected, in two round trips for any number of them."""
        if not device_ids:
            return []
        async with reaching_redis():
            pipeline = self._client.pipeline(transaction=False)
            pipeline.zrange(GATEWAYS, 0, -1)
            pipeline.mget([seen_key(device_id) for device_id in device_ids])
            gateways, seen = await pipeline.execute()
            fields = [f"device:{device_id}" for device_id in device_ids]
            counts = await self._of_each(gateways, fields)
        names = [gateway.decode() for gateway in gateways]
        return [
            Standing(
                tuple(name for name, here in zip(names, row, strict=True) if here),
                _last_seen(value),
            )
            for value, *row in zip(seen, *counts, strict=True)
        ]

    async def last_seen(self, device_ids: Sequence[str]) -> list[LastSeen | None]:
        """Return when these devices were last seen, in one round trip."""
        if not device_ids:
            return []
        async with reaching_redis():
            found = await self._client.mget([seen_key(device_id) for device_id in device_ids])
        return [_last_seen(value) for value in found]

    async def withdraw(self, gateway: str) -> None:
        """Remove the presence of a gateway that shuts down."""
        async with reaching_redis():
            pipeline = self._client.pipeline(transaction=False)
            pipeline.delete(presence_key(gateway))
            pipeline.zrem(GATEWAYS, gateway)
            pipeline.incr(PRESENCE_VERSION)
            await pipeline.execute()

    async def gateways(self, head: Position) -> list[GatewayReplica]:
        """Return the live gateways, most connections first; `head` is the newest change."""
        async with reaching_redis():
            pipeline = self._client.pipeline(transaction=False)
            pipeline.time()
            pipeline.zrange(GATEWAYS, 0, -1)
            time, names = await pipeline.execute()
            found = await self._of_each(names, _OF_GATEWAY)
        now = _milliseconds(time)
        decoded = (
            _gateway(name, fields, now, head) for name, fields in zip(names, found, strict=True)
        )
        live = [one for one in decoded if one is not None]
        return sorted(live, key=lambda one: (-one.connections, one.boot_id))

    async def version(self) -> int:
        """Return the counter of connects and disconnects."""
        async with reaching_redis():
            value = await self._client.get(PRESENCE_VERSION) or b"0"
        return int(value) if value.isdigit() else 0

    async def approvals(self) -> list[ApprovalReplica]:
        """Return the live approval replicas, by boot id."""
        async with reaching_redis():
            pipeline = self._client.pipeline(transaction=False)
            pipeline.time()
            pipeline.zrange(APPROVALS, 0, -1, withscores=True)
            time, found = await pipeline.execute()
            now = _milliseconds(time)
            ages = {name.decode(): max(0, now - int(at)) for name, at in found}
            names = sorted(name for name, ago in ages.items() if ago < ALIVE_KEPT_MS)
            processes = await self._client.mget(map(approval_key, names)) if names else []
        return [
            ApprovalReplica(name, ages[name], _process(value))
            for name, value in zip(names, processes, strict=True)
        ]

    async def _of_each(
        self, gateways: Sequence[bytes], fields: Sequence[str]
    ) -> list[list[bytes | None]]:
        """Read these fields of each gateway's presence; all None if it has expired."""
        if not gateways:
            return []
        pipeline = self._client.pipeline(transaction=False)
        for gateway in gateways:
            pipeline.hmget(presence_key(gateway.decode()), fields)
        found = await pipeline.execute(raise_on_error=False)
        nothing: list[bytes | None] = [None] * len(fields)
        return [nothing if isinstance(one, ResponseError) else one for one in found]


def _gateway(
    name: bytes, fields: Sequence[bytes | None], now: int, head: Position
) -> GatewayReplica | None:
    """Decode a gateway's presence; None if it has expired or cannot be read."""
    count, seen, applied, version, uptime, upstream = fields
    if count is None or seen is None:
        return None
    try:
        return GatewayReplica(
            name.decode(),
            int(count),
            max(0, now - int(seen)),
            None if applied is None else max(0, head.number - int(applied)),
            _UNREPORTED
            if version is None or uptime is None
            else ReplicaProcess(version.decode(errors="replace"), int(uptime)),
            _upstream(upstream),
        )
    except ValueError:
        return None


def _upstream(value: bytes | None) -> UpstreamState | None:
    """Decode how a gateway finds its upstream; what cannot be read counts as not reported."""
    try:
        return _decode_upstream(value) if value else None
    except (msgspec.MsgspecError, ValueError):
        return None


def _last_seen(value: bytes | None) -> LastSeen | None:
    """Decode when a device was last seen; an unreadable one counts as never seen."""
    try:
        return _decode_last_seen(value) if value else None
    except (msgspec.MsgspecError, ValueError):
        return None


def _process(value: bytes | None) -> ReplicaProcess:
    try:
        return _decode_process(value) if value else _UNREPORTED
    except (msgspec.MsgspecError, ValueError):
        return _UNREPORTED


def encode_last_seen(seen: LastSeen) -> bytes:
    """Encode it for the store, as heartbeat.lua does."""
    return _encode(seen)


def encode_process(uptime_s: int) -> bytes:
    """Encode this release and uptime for the store."""
    return _encode(ReplicaProcess(VERSION, uptime_s))


def heartbeat_arguments(heartbeat: HeartbeatQuestion) -> list[str | int | bytes]:
    """Return the arguments of heartbeat.lua about presence and last-seen times."""
    return [
        len(heartbeat.joined),
        len(heartbeat.left),
        heartbeat.version,
        heartbeat.uptime_s,
        b"" if heartbeat.upstream is None else _encode(heartbeat.upstream),
        *(part for one in heartbeat.joined for part in (one.number, _encode(one), one.device_id)),
        *heartbeat.left,
        _encode([_seen(one) for one in heartbeat.seen]),
    ]


def _seen(one: Seen) -> tuple[str | int, ...]:
    return (
        one.device_id,
        max(0, one.age_ms),
        CONNECT,
        "" if is_loopback(one.address) else one.address,
        one.role if one.method == DEVICE_TOKEN else "",
        one.name[:DISPLAY_NAME_LIMIT_CHARACTERS],
        one.app if one.app in VERSIONED_CLIENTS else "",
        one.platform[:DISPLAY_NAME_LIMIT_CHARACTERS],
    )


def _milliseconds(time: tuple[int, int]) -> int:
    seconds, microseconds = time
    return seconds * 1000 + microseconds // 1000
