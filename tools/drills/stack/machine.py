"""Stalls of the machine, which no drill can prevent.

Long stalls appear in the explanation of a violation; an affected case may be repeated.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NoReturn

from tools.drills.judging.observed import Mark
from tools.support.processes.redis_call import RedisCallError

if TYPE_CHECKING:
    from tools.drills.load.context import LoadContext

OBSERVE_SECONDS: Final = 0.2
WORTH_A_LINE_SECONDS: Final = 0.5
PROBE: Final = ("SET", "drill:probe", "")


async def watch_loop(context_: LoadContext) -> NoReturn:
    """Record delays of this process, which relays the traffic between services and Redis."""
    now = asyncio.get_running_loop().time
    while True:
        due = now() + OBSERVE_SECONDS
        await asyncio.sleep(OBSERVE_SECONDS)
        if (late := now() - due) > WORTH_A_LINE_SECONDS:
            context_.seen.marks.append(Mark(now(), f"(the drill itself was {late:.1f} s late)"))
            context_.seen.drill_stalled = max(context_.seen.drill_stalled, late)


async def watch_redis(context_: LoadContext) -> NoReturn:
    """Record how long Redis takes for a write that bypasses the proxies, while it runs."""
    now = asyncio.get_running_loop().time
    while True:
        began = now()
        with suppress(OSError, RedisCallError, AssertionError):
            redis = await asyncio.to_thread(lambda: context_.stack.redis)
            began = now()
            await asyncio.to_thread(redis.call, *PROBE)
        if (took := now() - began) > WORTH_A_LINE_SECONDS:
            context_.seen.marks.append(Mark(now(), f"(Redis took {took:.1f} s for a write)"))
            context_.seen.redis_stalled = max(context_.seen.redis_stalled, took)
        await asyncio.sleep(OBSERVE_SECONDS)
