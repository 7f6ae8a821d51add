"""A gateway that reports presence by heartbeats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.rpc.messages import HeartbeatAnswer, HeartbeatQuestion, Position
from shared.rpc.reports import Present

if TYPE_CHECKING:
    from tests.integration.approval.operator import Operator
    from tests.integration.approval.replica import Replica
    from tests.support.approval.devices import Device


class Gateway:
    """A gateway that sends heartbeats on demand."""

    def __init__(self, here: Replica, boot_id: str) -> None:
        self.boot_id = boot_id
        self._here = here
        self._beats = 0
        self._numbers = 0
        self._connections = 0
        self.held_at = 0

    async def beat(self, **result: Any) -> HeartbeatAnswer:
        """Send a heartbeat on top of the last one by default."""
        self._beats += 1
        beat = {
            "applied": Position(),
            "booted": False,
            "builds_on": self.held_at,
            "connections": self._connections,
            "lease_ms": 60_000,
            **result,
        }
        answer = await self._here.store.heartbeats.answer(
            self.boot_id, HeartbeatQuestion(self._beats, **beat)
        )
        self.held_at = answer.presence_at
        return answer

    async def admits(self, device: Device, role: str = "operator") -> int:
        """Admit a device; returns the number of its connection."""
        self._numbers += 1
        self._connections += 1
        await self.beat(joined=[Present(self._numbers, device.device_id, role, 5)])
        return self._numbers

    async def loses(self, *numbers: int) -> None:
        """Remove connections."""
        self._connections -= len(numbers)
        await self.beat(left=list(numbers))


async def redis_ms(here: Replica) -> int:
    seconds, microseconds = await here.redis.time()
    return int(seconds * 1000 + microseconds // 1000)


async def gateways(operator: Operator) -> list[dict[str, Any]]:
    """Return the live gateways."""
    found: list[dict[str, Any]] = (await operator.get("/v1/replicas")).ok()["gateways"]
    return found
