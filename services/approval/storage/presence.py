"""Who is connected where, who was seen when, and which replicas live: as beats wrote it down.

None of this is a change: it has no number and no audit entry, and is gone with the device or with
the gateway that said it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
from redis.exceptions import ResponseError

from services.approval.domain.records import Sighting
from services.approval.storage.reaching import reaching_redis
from shared.addresses import is_loopback
from shared.protocol.limits import DISPLAY_NAME_LIMIT_CHARACTERS
from shared.protocol.platforms import VERSIONED_CLIENTS
from shared.rpc.messages import DEVICE_TOKEN
from shared.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from shared.rpc.messages import BeatQuestion, Position, Seen

GATEWAYS: Final = "latchkey:gateways"
"""Sorted set: boot ids of gateways by when their presence vanishes, ms."""
APPROVALS: Final = "latchkey:approvals"
"""Sorted set: boot ids of approval replicas by when each last wrote that it is alive, ms."""
PRESENCE_VERSION: Final = "latchkey:presence-version"
"""How often somebody has come or gone at any gateway."""
ALIVE_KEPT_MS: Final = 5_000
"""After so long without a word an approval replica is no longer listed."""
PRESENCE_KEPT_MOST_MS: Final = 600_000
"""Presence is kept for as long as the gateway's lease, but no longer than this."""
CONNECT: Final = "connect"
"""Why a device counts as seen: it was let in (contract §8: so, too, when by its device token)."""

_encode: Final = msgspec.msgpack.Encoder().encode


def presence_key(boot_id: str) -> str:
    """Name the hash of who is connected to a gateway; beat.lua says what is in it."""
    return f"latchkey:presence:{boot_id}"


def approval_key(boot_id: str) -> str:
    """Name the key of an approval replica's release and uptime; it expires like its place."""
    return f"latchkey:approval:{boot_id}"


def seen_key(device_id: str) -> str:
    """Name the key of when a paired device was last seen; it goes with the record."""
    return f"latchkey:seen:{device_id}"


_decode_sighting: Final = msgspec.msgpack.Decoder(Sighting).decode


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a device is connected right now (boot ids of gateways), and when it was last seen."""

    replicas: tuple[str, ...]
    seen: Sighting | None


class ReplicaProcess(msgspec.Struct, frozen=True, omit_defaults=True):
    """The process of a replica: its release, and how many seconds it has been running.

    Both are empty for a replica of a release that does not report them.
    """

    version: str = ""
    uptime_s: int = 0


_decode_process: Final = msgspec.msgpack.Decoder(ReplicaProcess).decode
_UNREPORTED: Final = ReplicaProcess()


@dataclass(frozen=True, slots=True)
class GatewayReplica:
    """A live gateway; `behind` is None until it has learned where history stands."""

    boot_id: str
    connections: int
    last_beat_ago_ms: int
    behind: int | None
    process: ReplicaProcess


@dataclass(frozen=True, slots=True)
class ApprovalReplica:
    """A live approval replica."""

    boot_id: str
    last_alive_ago_ms: int
    process: ReplicaProcess


class Presence:
    """Reads what beats have told. Every method raises StoreUnavailable."""

    def __init__(self, client: Redis) -> None:
        self._client: Any = client  # its types cover bytes and text, ours are bytes

    async def standings(self, device_ids: Sequence[str]) -> list[Standing]:
        """Say of these devices where they are: two round trips, whatever their number."""
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
                _sighting(value),
            )
            for value, *row in zip(seen, *counts, strict=True)
        ]

    async def sightings(self, device_ids: Sequence[str]) -> list[Sighting | None]:
        """Say of these devices when they were last seen, in one round trip."""
        if not device_ids:
            return []
        async with reaching_redis():
            found = await self._client.mget([seen_key(device_id) for device_id in device_ids])
        return [_sighting(value) for value in found]

    async def withdraw(self, gateway: str) -> None:
        """Forget a gateway that leaves, and whoever was connected to it."""
        async with reaching_redis():
            pipeline = self._client.pipeline(transaction=False)
            pipeline.delete(presence_key(gateway))
            pipeline.zrem(GATEWAYS, gateway)
            pipeline.incr(PRESENCE_VERSION)
            await pipeline.execute()

    async def gateways(self, head: Position) -> list[GatewayReplica]:
        """Return the live gateways, the most connections first; `head` is the newest change."""
        async with reaching_redis():
            pipeline = self._client.pipeline(transaction=False)
            pipeline.time()
            pipeline.zrange(GATEWAYS, 0, -1)
            time, names = await pipeline.execute()
            found = await self._of_each(names, ["count", "seen", "applied", "version", "uptime"])
        now = _milliseconds(time)
        told = (
            _gateway(name, fields, now, head) for name, fields in zip(names, found, strict=True)
        )
        live = [one for one in told if one is not None]
        return sorted(live, key=lambda one: (-one.connections, one.boot_id))

    async def version(self) -> int:
        """Return how often somebody has come or gone."""
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
        """Read these fields of each gateway's presence; all None where it has vanished."""
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
    """Return a gateway as its presence tells it; None where it has vanished or cannot be read."""
    count, seen, applied, version, uptime = fields
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
        )
    except ValueError:
        return None


def _sighting(value: bytes | None) -> Sighting | None:
    """Decode when a device was last seen; what cannot be read counts as never."""
    try:
        return _decode_sighting(value) if value else None
    except (msgspec.MsgspecError, ValueError):
        return None


def _process(value: bytes | None) -> ReplicaProcess:
    try:
        return _decode_process(value) if value else _UNREPORTED
    except (msgspec.MsgspecError, ValueError):
        return _UNREPORTED


def encode_sighting(sighting: Sighting) -> bytes:
    """Encode for the store, as beat.lua does."""
    return _encode(sighting)


def encode_process(uptime_s: int) -> bytes:
    """Encode this release and uptime for the store."""
    return _encode(ReplicaProcess(VERSION, uptime_s))


def beat_arguments(beat: BeatQuestion) -> list[str | int | bytes]:
    """Return what beat.lua wants to know of a gateway's presence and of those it saw."""
    return [
        len(beat.joined),
        len(beat.left),
        beat.version,
        beat.uptime_s,
        *(part for one in beat.joined for part in (one.number, _encode(one), one.device_id)),
        *beat.left,
        _encode([_seen(one) for one in beat.seen]),
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
