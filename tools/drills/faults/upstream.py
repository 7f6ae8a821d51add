"""An upstream of relayed sessions that is killed, restarted, absent or unresponsive."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from tools.drills.fault import Back, Fault, Hits, Promise
from tools.drills.faults.services import EACH_GATEWAY, kill, terminate
from tools.drills.stack.settings import BEYOND_LEASE_SECONDS, MOMENT_SECONDS

if TYPE_CHECKING:
    from tools.drills.fault_context import FaultContext

RELAYED_CODES: Final = frozenset({1012, 1013})
"""Close codes of sessions that end with the upstream; both ask the client to reconnect."""


async def kill_upstream(context: FaultContext, _case: str) -> None:
    """Kill the upstream, and start it again after a while."""
    await _away(context, kill_it=True, seconds=MOMENT_SECONDS)


async def restart_upstream(context: FaultContext, _case: str) -> None:
    """Restart the upstream as a deployment does."""
    await _away(context, kill_it=False, seconds=0.0)


async def keep_upstream_away(context: FaultContext, _case: str) -> None:
    """Have no upstream for longer than a lease; pairing and revoking work without it."""
    await _away(context, kill_it=True, seconds=BEYOND_LEASE_SECONDS)


async def hang_upstream(context: FaultContext, _case: str) -> None:
    """Have an upstream that neither answers nor closes."""
    upstream = context.stack.upstream
    assert upstream is not None
    context.revoke()
    context.note("the upstream is paused")
    upstream.pause()
    try:
        await context.last(MOMENT_SECONDS)
    finally:
        upstream.resume()
        context.note("the upstream continues")


async def _away(context: FaultContext, *, kill_it: bool, seconds: float) -> None:
    upstream = context.stack.upstream
    assert upstream is not None
    context.revoke()
    context.note(f"the upstream is {'killed (-9)' if kill_it else 'stopped (SIGTERM)'}")
    await asyncio.to_thread(upstream.kill9 if kill_it else upstream.terminate)
    await context.last(seconds)
    await asyncio.to_thread(upstream.start)
    context.note("the upstream is started")


_ALL_END: Final = Promise(hits=Hits.EVERYBODY, back=Back.FROM_END, codes=RELAYED_CODES)

FAULTS: Final = (
    Fault(name="upstream killed (-9)", do=kill_upstream, promise=_ALL_END, relayed=True),
    Fault(name="upstream restarted", do=restart_upstream, promise=_ALL_END, relayed=True),
    Fault(
        name="upstream away beyond the lease", do=keep_upstream_away, promise=_ALL_END, relayed=True
    ),
    Fault(
        name="upstream stopped for a moment",
        do=hang_upstream,
        promise=Promise(back=Back.FROM_END),
        relayed=True,
    ),
    Fault(
        name="relaying gateway killed (-9)",
        do=kill,
        cases=EACH_GATEWAY,
        promise=Promise(hits=Hits.TARGET),
        relayed=True,
    ),
    Fault(
        name="relaying gateway ended (SIGTERM)",
        do=terminate,
        cases=EACH_GATEWAY,
        promise=Promise(hits=Hits.TARGET, codes=RELAYED_CODES),
        relayed=True,
    ),
)
