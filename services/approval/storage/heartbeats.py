"""Answers gateways' heartbeats: one script writes their presence and reads what they missed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from services.approval.domain.errors import StoreUnavailable
from services.approval.storage.changelog import UnreadableLog, decode_changes, decode_head
from services.approval.storage.keys import CHANGES, HEAD, PAIRED, seen_key
from services.approval.storage.presence import (
    GATEWAYS,
    PRESENCE_KEPT_MAX_MS,
    PRESENCE_VERSION,
    beat_arguments,
    presence_key,
)
from services.approval.storage.reaching import reaching_redis
from services.approval.storage.repairs import REPAIRS_LIMIT, script
from shared.rpc.messages import HeartbeatAnswer

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from services.approval.storage.repairs import Repairs
    from shared.rpc.messages import HeartbeatQuestion

BEAT_CHANGES_LIMIT: Final = 256
"""Max. changes in one answer to a heartbeat (R4)."""
BEAT_LIMIT_BYTES: Final = 1024 * 1024
"""Max. total size of these changes, so that many answers fit into one message."""


class Heartbeats:
    """Answers heartbeats over the connections that are reserved for leases."""

    def __init__(self, client: Redis, repairs: Repairs) -> None:
        self._repairs = repairs
        self._script = client.register_script(script("beat.lua"))

    async def answer(self, gateway: str, beat: HeartbeatQuestion) -> HeartbeatAnswer:
        """Write a gateway's presence and read the changes it has missed, atomically.

        If head and change log are inconsistent, a new history starts, which the answer reflects.
        """
        for _ in range(REPAIRS_LIMIT):
            raw = await self._run(gateway, beat)
            if raw[0] == b"broken":
                await self._repairs.repair(raw[1].decode())
                continue
            head, now_ms, presence_at, resync, found, version = raw
            newest = decode_head(head)
            try:
                changes = decode_changes(found, BEAT_LIMIT_BYTES)
            except UnreadableLog:
                await self._repairs.repair(CHANGES, newest.tag, "unreadable")
                continue
            return HeartbeatAnswer(
                beat_id=beat.beat_id,
                head=newest,
                now_ms=now_ms,
                presence_at=presence_at,
                resync=bool(resync),
                changes=changes,
                presence_version=version,
            )
        message = "head and change log are inconsistent, and a repair did not help"
        raise StoreUnavailable(message)

    async def _run(self, gateway: str, beat: HeartbeatQuestion) -> list[Any]:
        async with reaching_redis():
            found: list[Any] = await self._script(
                keys=[
                    presence_key(gateway),
                    GATEWAYS,
                    HEAD,
                    CHANGES,
                    PAIRED,
                    PRESENCE_VERSION,
                    *(seen_key(one.device_id) for one in beat.seen),
                ],
                args=[
                    gateway,
                    beat.beat_id,
                    beat.builds_on,
                    beat.connections,
                    min(beat.lease_ms, PRESENCE_KEPT_MAX_MS),
                    beat.applied.number,
                    beat.applied.tag,
                    int(beat.booted),
                    BEAT_CHANGES_LIMIT,
                    *beat_arguments(beat),
                ],
            )
        return found
