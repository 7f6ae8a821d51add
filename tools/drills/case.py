"""One case: start the load, inject the fault, wait for recovery, and judge the observations."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from deploy.local.errors import RunError
from tools.drills.judge import BOUND_SECONDS, judge
from tools.drills.newcomers import Newcomers
from tools.drills.observed import ONCE, Observed
from tools.drills.scene import Scene
from tools.drills.settings import BACK_SECONDS, CASE_SECONDS
from tools.drills.victim import Victim

if TYPE_CHECKING:
    from tools.drills.crowd import Crowd
    from tools.drills.fault import Fault
    from tools.drills.judge import Verdict
    from tools.drills.street import Street

AS_USUAL_SECONDS: Final = 0.5
_DID_NOT_COME_BACK: Final = (AssertionError, TimeoutError, RunError)


async def drill(street: Street, crowd: Crowd, fault: Fault, case: str) -> tuple[Observed, Verdict]:
    """Run one case of a fault; what does not recover by itself is part of the observations."""
    before = street.seen
    seen = street.seen = Observed(
        fault=fault.name,
        case=case,
        round=before.round,
        grants=street.grants,
        churning=crowd.churning,
        audited=0 if fault.promise.forgets else before.audited,
        decided_before=before.decided_before
        | {(one.request_id, one.action) for one in before.audit if one.action in ONCE},
    )
    victim = Victim(street)
    try:
        async with asyncio.timeout(CASE_SECONDS):
            await _play(street, crowd, fault, victim)
    except _DID_NOT_COME_BACK as error:
        after = seen.marks[-1].text if seen.marks else "nothing"
        seen.broken.append(f"{str(error) or 'not in time'}; last action: {after}")
        seen.over = seen.over or Scene.now()
        await street.house.mend()
    finally:
        await victim.leave()
        if fault.after is not None:
            await fault.after(street.house)
    crowd.require_alive()
    await _read_records(street)
    seen.name_replicas(street.house.name_of)
    return seen, judge(seen, fault.promise)


async def _play(street: Street, crowd: Crowd, fault: Fault, victim: Victim) -> None:
    seen, house = street.seen, street.house
    if fault.before is not None:
        await fault.before(house)
    await house.ready()
    await crowd.pair(victim.device)
    await victim.enter()
    await crowd.settled()
    newcomers = Newcomers(street)
    scene = Scene(street, crowd, victim)
    try:
        seen.revoke = victim.revoke
        await asyncio.sleep(AS_USUAL_SECONDS)
        crowd.note_sessions()
        seen.began = seen.struck = scene.now()
        await fault.do(scene, seen.case)
        seen.over = scene.now()
        scene.note("the fault is over")
        await house.ready()
        scene.note("all replicas are ready")
        await scene.revoked()
        await victim.all_closed(within=BOUND_SECONDS)
        await crowd.all_back(seen.over, within=BACK_SECONDS)
        scene.note("churning devices are admitted again")
        await newcomers.finish()
        scene.note("the last newcomers are admitted")
        await crowd.all_in()
        seen.ended = scene.now()
    finally:
        await newcomers.stop()


async def _read_records(street: Street) -> None:
    """Read the resulting records, which has to work now whatever happened before."""
    seen = street.seen
    try:
        await street.house.ready()
        seen.audit = await street.desk.audit(seen.audited)
        seen.audited = max((one.id for one in seen.audit), default=seen.audited)
        seen.paired = await street.desk.paired()
    except _DID_NOT_COME_BACK as error:
        seen.broken.append(f"the records cannot be read: {str(error) or 'not in time'}")
