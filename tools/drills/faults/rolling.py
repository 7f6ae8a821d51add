"""A deployment: processes are replaced one after the other."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from tools.drills.fault import Fault, Hits, Promise

if TYPE_CHECKING:
    from tools.drills.fault_context import FaultContext


async def restart_everything(context: FaultContext, _case: str) -> None:
    """Restart gateways, approvals and Redis, each once the previous one is ready."""
    stack = context.stack
    for number, gateway in enumerate(stack.stack.gateways):
        context.note(f"{gateway.name} is restarted")
        await stack.restart(gateway)
        if number == 0:
            context.revoke()
    for approval in stack.stack.approvals:
        context.note(f"{approval.name} is restarted")
        await stack.restart(approval)
    context.note("Redis is restarted")
    redis = stack.redis
    await asyncio.to_thread(redis.stop)
    await asyncio.to_thread(redis.start)


FAULTS: Final = (
    Fault(
        name="rolling restart of everything",
        do=restart_everything,
        harms_redis=True,
        promise=Promise(hits=Hits.EVERYBODY),
    ),
)
