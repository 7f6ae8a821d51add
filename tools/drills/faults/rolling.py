"""A deployment: processes are replaced one after the other."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from tools.drills.fault import Fault, Hits, Promise

if TYPE_CHECKING:
    from tools.drills.scene import Scene


async def restart_everything(scene: Scene, _case: str) -> None:
    """Restart gateways, approvals and Redis, each once the previous one is ready."""
    house = scene.house
    for number, gateway in enumerate(house.stack.gateways):
        scene.note(f"{gateway.name} is restarted")
        await house.restart(gateway)
        if number == 0:
            scene.revoke()
    for approval in house.stack.approvals:
        scene.note(f"{approval.name} is restarted")
        await house.restart(approval)
    scene.note("Redis is restarted")
    await asyncio.to_thread(house.stack.redis.stop)
    await asyncio.to_thread(house.stack.redis.start)


FAULTS: Final = (
    Fault(
        name="rolling restart of everything",
        do=restart_everything,
        harms_redis=True,
        promise=Promise(hits=Hits.EVERYBODY),
    ),
)
