"""Redis with sentinels: its primary fails or is cut off, and sentinels fail."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from shared.device.profile import CLI
from tools.drills.fault import Back, Fault, Hits, Promise
from tools.drills.load.device import Device
from tools.drills.stack.settings import (
    AFTER_FAILOVER_SECONDS,
    BEYOND_LEASE_SECONDS,
    FAILOVER_SECONDS,
    MOMENT_SECONDS,
)

if TYPE_CHECKING:
    from tools.drills.fault_context import FaultContext
    from tools.drills.stack.stack import DrillStack
    from tools.support.processes.redis import RedisServer

EAGER_SECONDS: Final = 0.05
"""Pause of a device that tries to be admitted again and again."""


async def kill(context: FaultContext, _case: str) -> None:
    """Kill the primary; it returns after the failover."""
    old, device = context.stack.redis, await _paired(context)
    old.kill9()
    context.note("the primary is killed (-9)")
    context.revoke()
    await _failed_over(context, old, device)
    await asyncio.to_thread(old.start)
    context.note("the old primary has returned")
    await context.last(MOMENT_SECONDS)


async def stop(context: FaultContext, _case: str) -> None:
    """Stop the primary, and resume it after the failover: it still says that it is the primary."""
    old, device = context.stack.redis, await _paired(context)
    old.pause()
    context.note("the primary is stopped (SIGSTOP)")
    context.revoke()
    await _failed_over(context, old, device)
    old.resume()
    context.note("the old primary continues")
    await context.last(MOMENT_SECONDS)


async def cut_off(context: FaultContext, _case: str) -> None:
    """Cut the primary off from replicas and sentinels, while it goes on serving the services."""
    old, device = context.stack.redis, await _paired(context)
    link = context.stack.sentinels.peers_of(old)
    link.hold()
    context.note("the primary is cut off from replicas and sentinels")
    context.revoke()
    await _failed_over(context, old, device)
    await context.last(MOMENT_SECONDS)
    link.pass_on()
    context.note("the old primary is connected again")
    await context.last(MOMENT_SECONDS)


async def leave_minority(context: FaultContext, _case: str) -> None:
    """Kill one sentinel and stop another: everything goes on."""
    first, second, _ = context.stack.sentinels.redis.sentinels
    first.kill9()
    second.pause()
    context.note("one sentinel is killed, one is stopped")
    context.revoke()
    await context.last(BEYOND_LEASE_SECONDS)
    await asyncio.to_thread(first.bring_back)
    await asyncio.to_thread(second.bring_back)
    context.note("the sentinels are back")


async def kill_in_minority(context: FaultContext, _case: str) -> None:
    """Kill the primary while most sentinels are away: nobody takes over until they are back."""
    first, second, _ = context.stack.sentinels.redis.sentinels
    old, device = context.stack.redis, await _paired(context)
    first.kill9()
    second.pause()
    await asyncio.to_thread(old.kill9)
    context.struck()
    context.note("most sentinels are away, and the primary is killed (-9)")
    context.revoke()
    await context.last(BEYOND_LEASE_SECONDS)
    await asyncio.to_thread(first.bring_back)
    await asyncio.to_thread(second.bring_back)
    context.note("the sentinels are back")
    await _failed_over(context, old, device)
    await asyncio.to_thread(old.start)
    context.note("the old primary has returned")


async def make_whole(stack: DrillStack) -> None:
    """Let all servers follow one primary again, which is not part of the fault."""
    await stack.sentinels.bring_back()


async def _paired(context: FaultContext) -> Device:
    """Return a paired device, which is to be admitted right after a failover."""
    device = Device(context.context_, CLI)
    await context.load.pair(device)
    return device


async def _failed_over(context: FaultContext, old: RedisServer, device: Device) -> None:
    """Wait for the failover, and measure from it until the device is admitted."""
    seen = context.context_.seen
    async with asyncio.timeout(FAILOVER_SECONDS):
        await context.stack.sentinels.named_another(old)
    began = context.now()
    context.note("a sentinel names another primary")
    async with asyncio.timeout(FAILOVER_SECONDS):
        while True:
            if (entered := await device.attempt(context.context_.url)) is not None:
                break
            await asyncio.sleep(EAGER_SECONDS)
    took = context.now() - began
    await entered[0].close()
    seen.failover_seconds = took
    context.note(f"a device is admitted again after {took:.2f} s")
    if took > AFTER_FAILOVER_SECONDS:
        seen.broken.append(f"admissions succeeded only {took:.1f} s after the failover")


_FAILS_OVER: Final = Promise(hits=Hits.EVERYBODY, back=Back.FROM_END)
"""Sessions stay if the failover takes less than what remains of their lease."""

FAULTS: Final = (
    Fault(
        name="primary killed (-9)",
        do=kill,
        harms_redis=True,
        promise=_FAILS_OVER,
        after=make_whole,
    ),
    Fault(name="primary stopped", do=stop, harms_redis=True, promise=_FAILS_OVER, after=make_whole),
    Fault(
        name="primary cut off from its replicas",
        do=cut_off,
        harms_redis=True,
        promise=_FAILS_OVER,
        after=make_whole,
    ),
    Fault(name="most sentinels away", do=leave_minority, promise=Promise(), after=make_whole),
    Fault(
        name="primary killed, most sentinels away",
        do=kill_in_minority,
        harms_redis=True,
        promise=Promise(hits=Hits.EVERYBODY, within_lease=True, back=Back.FROM_END),
        after=make_whole,
    ),
)
