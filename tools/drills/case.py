"""One case: start the load, inject the fault, wait for recovery, and judge the observations."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from deploy.local.errors import RunError
from tools.drills.fault_context import FaultContext
from tools.drills.judging.judge import BOUND_SECONDS, judge
from tools.drills.judging.observed import ONCE, Observed
from tools.drills.load.new_devices import NewDevices
from tools.drills.load.revoked_device import RevokedDevice
from tools.drills.stack.settings import BACK_SECONDS, CASE_SECONDS

if TYPE_CHECKING:
    from tools.drills.fault import Fault
    from tools.drills.judging.judge import Verdict
    from tools.drills.load.context import LoadContext
    from tools.drills.load.load import Load

AS_USUAL_SECONDS: Final = 0.5
_DID_NOT_COME_BACK: Final = (AssertionError, TimeoutError, RunError)


async def drill(
    context_: LoadContext, load: Load, fault: Fault, case: str
) -> tuple[Observed, Verdict]:
    """Run one case of a fault; what does not recover by itself is part of the observations."""
    before = context_.seen
    seen = context_.seen = Observed(
        fault=fault.name,
        case=case,
        round=before.round,
        grants=context_.grants,
        churning=load.churning,
        audited=0 if fault.promise.forgets else before.audited,
        decided_before=before.decided_before
        | {(entry.request_id, entry.action) for entry in before.audit if entry.action in ONCE},
    )
    revoked = RevokedDevice(context_)
    try:
        async with asyncio.timeout(CASE_SECONDS):
            await _run_phases(context_, load, fault, revoked)
    except _DID_NOT_COME_BACK as error:
        after = seen.marks[-1].text if seen.marks else "nothing"
        seen.broken.append(f"{str(error) or 'not in time'}; last action: {after}")
        seen.over = seen.over or FaultContext.now()
        await context_.stack.mend()
    finally:
        await revoked.leave()
        if fault.after is not None:
            await fault.after(context_.stack)
    load.require_alive()
    await _read_records(context_)
    seen.name_replicas(context_.stack.name_of)
    return seen, judge(seen, fault.promise)


async def _run_phases(
    context_: LoadContext, load: Load, fault: Fault, revoked: RevokedDevice
) -> None:
    seen, stack = context_.seen, context_.stack
    if fault.before is not None:
        await fault.before(stack)
    await stack.ready()
    await load.pair(revoked.device)
    await revoked.enter()
    await load.settled()
    new_devices = NewDevices(context_)
    context = FaultContext(context_, load, revoked)
    try:
        seen.revoke = revoked.revoke
        await asyncio.sleep(AS_USUAL_SECONDS)
        load.note_sessions()
        seen.began = seen.struck = context.now()
        await fault.do(context, seen.case)
        seen.over = context.now()
        context.note("the fault is over")
        await stack.ready()
        context.note("all replicas are ready")
        await context.revoked()
        await revoked.all_closed(within=BOUND_SECONDS)
        await load.all_back(seen.over, within=BACK_SECONDS)
        context.note("churning devices are admitted again")
        await new_devices.finish()
        context.note("the last new_devices are admitted")
        await load.all_in()
        seen.ended = context.now()
    finally:
        await new_devices.stop()


async def _read_records(context_: LoadContext) -> None:
    """Read the resulting records, which has to work now whatever happened before."""
    seen = context_.seen
    try:
        await context_.stack.ready()
        seen.audit = await context_.api.audit(seen.audited)
        seen.audited = max((entry.id for entry in seen.audit), default=seen.audited)
        seen.paired = await context_.api.paired()
    except _DID_NOT_COME_BACK as error:
        seen.broken.append(f"the records cannot be read: {str(error) or 'not in time'}")
