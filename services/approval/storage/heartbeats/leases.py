"""What leases depend on: gateways' heartbeats and this replica's own announcements.

Both use connections to Redis that are reserved for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import ResponseError

from services.approval.domain.errors import StoreUnavailable
from services.approval.storage.changes.changelog import UnreadableLog, decode_changes, decode_head
from services.approval.storage.changes.repairs import REPAIRS_LIMIT
from services.approval.storage.heartbeats.presence import (
    ALIVE_KEPT_MS,
    APPROVALS,
    GATEWAYS,
    PRESENCE_KEPT_MAX_MS,
    PRESENCE_VERSION,
    approval_key,
    encode_process,
    heartbeat_arguments,
    presence_key,
)
from services.approval.storage.keys import CHANGES, HEAD, PAIRED, seen_key
from services.approval.storage.redis import load_script, reaching_redis
from shared.clock import NS_PER_MS, remote_offset_ms
from shared.rpc.messages import HeartbeatAnswer

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from services.approval.storage.changes.repairs import Repairs
    from shared.clock import Clock
    from shared.rpc.messages import HeartbeatQuestion

HEARTBEAT_CHANGES_LIMIT: Final = 256
"""Max. changes in one answer to a heartbeat (R4)."""
HEARTBEAT_LIMIT_BYTES: Final = 1024 * 1024
"""Max. total size of these changes, so that many answers fit into one message."""


class LivenessStore:
    """Announces this replica. Every method but `now_ms` may raise StoreUnavailable."""

    def __init__(self, client: Redis, clock: Clock) -> None:
        self._client: Any = client  # its types allow bytes and str; all values here are bytes
        self._clock = clock
        self._offset_ms: float | None = None

    def now_ms(self) -> int:
        """Return Redis's time as last learned; it is the common clock of all approval replicas."""
        if self._offset_ms is None:
            return self._clock.wall_ns() // NS_PER_MS
        return int(self._clock.monotonic() * 1000 + self._offset_ms)

    async def write_alive(self, boot_id: str, *, uptime_s: int = 0) -> None:
        """Record that this replica is alive, and learn Redis's time."""
        if self._offset_ms is None:
            await self._learn_time()
        now_ms = self.now_ms()
        began = self._clock.monotonic()
        async with reaching_redis():
            pipeline = self._client.pipeline(transaction=False)
            pipeline.zadd(APPROVALS, {boot_id: now_ms})
            pipeline.zremrangebyscore(APPROVALS, "-inf", now_ms - ALIVE_KEPT_MS)
            pipeline.set(approval_key(boot_id), encode_process(uptime_s), px=ALIVE_KEPT_MS)
            pipeline.time()
            try:
                *_written, time = await pipeline.execute()
            except ResponseError as error:
                if "WRONGTYPE" in str(error):  # the next call recreates it
                    await self._client.delete(APPROVALS)
                raise
        self._set_offset(time, began)

    async def write_gone(self, boot_id: str) -> None:
        """Record that this replica shuts down."""
        async with reaching_redis():
            await self._client.zrem(APPROVALS, boot_id)

    async def _learn_time(self) -> None:
        began = self._clock.monotonic()
        async with reaching_redis():
            time = await self._client.time()
        self._set_offset(time, began)

    def _set_offset(self, time: tuple[int, int], began: float) -> None:
        # A slow reply must not put our clock ahead: questions would be taken for late.
        seconds, microseconds = time
        self._offset_ms = remote_offset_ms(
            self._offset_ms,
            seconds * 1000 + microseconds / 1000,
            sent_ms=began * 1000,
            received_ms=self._clock.monotonic() * 1000,
        )


class Heartbeats:
    """Answers heartbeats over the connections that are reserved for leases."""

    def __init__(self, client: Redis, repairs: Repairs) -> None:
        self._repairs = repairs
        self._script = client.register_script(load_script("heartbeat.lua", with_history=True))

    async def answer(self, gateway: str, heartbeat: HeartbeatQuestion) -> HeartbeatAnswer:
        """Write a gateway's presence and read the changes it has missed, atomically.

        If head and change log are inconsistent, a new history starts, which the answer reflects.
        """
        for _ in range(REPAIRS_LIMIT):
            raw = await self._run(gateway, heartbeat)
            if raw[0] == b"broken":
                await self._repairs.repair(raw[1].decode())
                continue
            head, now_ms, presence_at, resync, found, version = raw
            newest = decode_head(head)
            try:
                changes = decode_changes(found, HEARTBEAT_LIMIT_BYTES)
            except UnreadableLog:
                await self._repairs.repair(CHANGES, newest.tag, "unreadable")
                continue
            return HeartbeatAnswer(
                heartbeat_id=heartbeat.heartbeat_id,
                head=newest,
                now_ms=now_ms,
                presence_at=presence_at,
                resync=bool(resync),
                changes=changes,
                presence_version=version,
            )
        message = "head and change log are inconsistent, and a repair did not help"
        raise StoreUnavailable(message)

    async def _run(self, gateway: str, heartbeat: HeartbeatQuestion) -> list[Any]:
        async with reaching_redis():
            found: list[Any] = await self._script(
                keys=[
                    presence_key(gateway),
                    GATEWAYS,
                    HEAD,
                    CHANGES,
                    PAIRED,
                    PRESENCE_VERSION,
                    *(seen_key(one.device_id) for one in heartbeat.seen),
                ],
                args=[
                    gateway,
                    heartbeat.heartbeat_id,
                    heartbeat.builds_on,
                    heartbeat.connections,
                    min(heartbeat.lease_ms, PRESENCE_KEPT_MAX_MS),
                    heartbeat.applied.number,
                    heartbeat.applied.tag,
                    int(heartbeat.booted),
                    HEARTBEAT_CHANGES_LIMIT,
                    *heartbeat_arguments(heartbeat),
                ],
            )
        return found
