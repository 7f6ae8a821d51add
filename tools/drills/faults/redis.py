"""Redis is killed, restarted, paused, loses its clients, or loses its data."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from shared.bus.channels import EVENTS
from tools.drills.fault import Back, Fault, Hits, Promise
from tools.drills.stack.settings import BEYOND_LEASE_SECONDS, MOMENT_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tools.drills.fault_context import FaultContext

KILLS: Final = 3
APART_SECONDS: Final = 0.3
BUFFER_LIMIT_BYTES: Final = 65_536
LIMIT: Final = "client-output-buffer-limit"


async def kill(context: FaultContext, _case: str) -> None:
    """Kill Redis as a power cut does, and restart it, several times during approvals."""
    redis = context.stack.redis
    for turn in range(KILLS):
        if turn == 0:
            context.revoke()
        context.note("Redis is killed (-9)")
        await asyncio.to_thread(redis.restart)
        context.note("Redis is started")
        await context.last(APART_SECONDS)


async def restart(context: FaultContext, _case: str) -> None:
    """Stop Redis normally, and start it again."""
    redis = context.stack.redis
    context.revoke()
    context.note("Redis is stopped (SIGTERM)")
    await asyncio.to_thread(redis.stop)
    await asyncio.to_thread(redis.start)
    context.note("Redis is started")


async def pause_for_a_moment(context: FaultContext, _case: str) -> None:
    """Pause Redis for less than the lease."""
    await _pause(context, MOMENT_SECONDS)


async def pause_beyond_lease(context: FaultContext, _case: str) -> None:
    """Pause Redis until every lease has expired."""
    await _pause(context, BEYOND_LEASE_SECONDS)


async def drop_clients(context: FaultContext, _case: str) -> None:
    """Kill the connections of all clients repeatedly."""

    def drop(client: Any) -> None:
        # A raw command, because redis-py's own method requires an id or a type.
        for kind in ("normal", "pubsub"):
            client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")

    async for _ in _again_and_again(context):
        context.note("all clients of Redis are killed")
        await context.stack.with_admin(drop)


async def overflow(context: FaultContext, _case: str) -> None:
    """Send all subscribers more than their output buffer holds, at the moment of a revocation."""
    before = ""

    def limit(client: Any) -> None:
        nonlocal before
        before = client.config_get(LIMIT)[LIMIT]
        client.config_set(LIMIT, f"pubsub {BUFFER_LIMIT_BYTES} 0 0")

    def flood(client: Any) -> None:
        client.publish(EVENTS, bytes(16 * BUFFER_LIMIT_BYTES))

    await context.stack.with_admin(limit)
    try:
        async for _ in _again_and_again(context):
            context.note("the events exceed a subscriber's output buffer")
            await context.stack.with_admin(flood)
    finally:
        await context.stack.with_admin(lambda client: client.config_set(LIMIT, before))


async def forget(context: FaultContext, _case: str) -> None:
    """Empty Redis; once all sessions are closed, approve the devices again."""
    asked = context.now()
    await asyncio.to_thread(context.stack.redis.call, "FLUSHALL")
    context.forgotten(asked)
    context.struck()
    context.note("Redis has forgotten everything")
    await context.last(BEYOND_LEASE_SECONDS)
    context.note("all devices are approved again")
    await context.load.approve_anew()


async def _again_and_again(context: FaultContext) -> AsyncIterator[None]:
    """Yield repeatedly after short pauses, with the revocation at the second time."""
    until = context.now() + MOMENT_SECONDS
    turn = 0
    while context.now() < until:
        turn += 1
        if turn == 2:
            context.revoke()
        yield
        await context.last(APART_SECONDS)
    if turn < 2:
        context.revoke()


async def _pause(context: FaultContext, seconds: float) -> None:
    redis = context.stack.redis
    redis.pause()
    context.note("Redis is paused (SIGSTOP)")
    context.revoke()
    try:
        await context.last(seconds)
    finally:
        redis.resume()
        context.note("Redis continues")


_KEPT: Final = Promise(back=Back.FROM_END)
_GONE: Final = Promise(hits=Hits.EVERYBODY, within_lease=True, back=Back.FROM_END)

BEYOND_LEASE: Final = Fault(
    name="Redis paused beyond the lease", do=pause_beyond_lease, harms_redis=True, promise=_GONE
)
FAULTS: Final = (
    Fault(name="Redis killed (-9)", do=kill, harms_redis=True, promise=_KEPT),
    Fault(name="Redis restarted", do=restart, harms_redis=True, promise=_KEPT),
    Fault(name="Redis paused for a moment", do=pause_for_a_moment, harms_redis=True, promise=_KEPT),
    BEYOND_LEASE,
    Fault(name="Redis' clients killed", do=drop_clients, promise=_KEPT),
    Fault(name="Redis' output buffers overflow", do=overflow, promise=_KEPT),
)
FORGETTING: Final = Fault(
    name="Redis emptied (FLUSHALL)",
    do=forget,
    promise=Promise(hits=Hits.EVERYBODY, within_lease=True, back=Back.FROM_END, forgets=True),
)
