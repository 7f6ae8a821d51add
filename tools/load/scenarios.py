"""The scenarios, as run by the conductor: each returns its records."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from tools.load.approval import ApprovalError
from tools.load.conductor import Conductor
from tools.load.devices import PROFILE
from tools.load.looking import looking
from tools.load.messages import ComeBack, Stop
from tools.load.pairing import AT_ONCE, first_of
from tools.load.plan import Drop, Scenario
from tools.load.recording import PhaseRecord
from tools.load.remains import after_load, before_load
from tools.load.verdicts import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tools.load.approval import Approval
    from tools.load.conductor import Stage
    from tools.load.devices import Identity
    from tools.load.plan import Phase
    from tools.load.processes import Watch
    from tools.load.recording import Recording
    from tools.load.remains import Remainder

OPEN_SECONDS: Final = 180.0
SETTLE_SECONDS: Final = 1.0
BACK_SECONDS: Final = 60.0
CLOSED_SECONDS: Final = 30.0
QUIET_SECONDS: Final = 2.0


@dataclass(slots=True)
class Run:
    """All records of a scenario, and the moments specific to it.

    `dropped` is when a storm began, `calls` when the revocation of each device was requested;
    `lost` counts connections that ended unexpectedly, `held` those open at the end; `remains` is
    what a soak found before and after it.
    """

    recording: Recording
    watch: Watch
    dropped: float | None = None
    calls: dict[int, float] = field(default_factory=dict)
    lost: int = 0
    held: int = 0
    remains: list[Remainder] = field(default_factory=list)


async def run(stage: Stage, identities: Sequence[Identity]) -> Run:
    """Run the planned scenario. Raises CrewError, Unreachable, ApprovalError."""
    plan = stage.plan
    if plan.scenario is Scenario.SOAK:
        return await _soak(stage, identities)
    if plan.phases:
        return await _churn(stage, identities)
    names = {Scenario.STORM: "reconnecting", Scenario.REVOKE: "revoking"}
    later = names.get(plan.scenario, "holding")
    phases = [PhaseRecord(name, is_churn=False) for name in ("opening", later)]
    conductor = Conductor(stage, identities, phases)
    match plan.scenario:
        case Scenario.STORM:
            return await _storm(conductor)
        case Scenario.REVOKE:
            assert stage.approval is not None
            return await _revoke(conductor, stage.approval, identities)
        case _:
            return await _idle(conductor)


async def _soak(stage: Stage, identities: Sequence[Identity]) -> Run:
    """Churn, then check what is left over.

    The warm-up has workers of its own: when they end, all their connections end.
    """

    async def churn(phase: Phase) -> Run:
        return await _churn(replace(stage, plan=replace(stage.plan, phases=(phase,))), identities)

    *warm_up, main = stage.plan.phases
    async with looking(stage.ground) as look:
        warmed = [await churn(phase) for phase in warm_up]
        if stage.approval is not None:
            await stage.approval.let_go()
        before = await before_load(look)
        run = await churn(main)
        run.remains = await after_load(look, before)
    run.recording.phases[:0] = [phase for one in warmed for phase in one.recording.phases]
    return run


async def _churn(stage: Stage, identities: Sequence[Identity]) -> Run:
    phases = [PhaseRecord(phase.name, counted=phase.counted) for phase in stage.plan.phases]
    conductor = Conductor(stage, identities, phases)
    run = Run(conductor.recording, conductor.watch)
    async with conductor.working():
        done = asyncio.create_task(conductor.crew.until_done())
        try:
            at = time.monotonic()
            for phase, planned in zip(run.recording.phases, conductor.plan.phases, strict=True):
                conductor.begin(phase)
                at += planned.seconds
                await asyncio.wait([done], timeout=at - time.monotonic())
                conductor.end(phase)
            await done
        finally:
            done.cancel()
    return run


async def _open(conductor: Conductor) -> None:
    """Open all connections; those that fail are left out and show in the outcomes."""
    phase = conductor.recording.phases[0]
    conductor.begin(phase)
    await conductor.until(lambda: conductor.recording.opened, OPEN_SECONDS)
    conductor.end(phase)


async def _idle(conductor: Conductor) -> Run:
    run = Run(conductor.recording, conductor.watch)
    holding = run.recording.phases[1]
    async with conductor.working():
        await _open(conductor)
        conductor.begin(holding)
        await conductor.until(lambda: False, conductor.plan.seconds)
        conductor.end(holding)
        run.lost = len(run.recording.ended)
        await _stop(conductor, run)
    return run


async def _storm(conductor: Conductor) -> Run:
    run = Run(conductor.recording, conductor.watch)
    record, plan = run.recording, conductor.plan
    returning = record.phases[1]
    async with conductor.working():
        await _open(conductor)
        opened = record.phases[0].tally.of(Kind.ADMITTED)
        await conductor.until(lambda: False, SETTLE_SECONDS)
        run.lost = len(record.ended)
        conductor.begin(returning)
        conductor.crew.order(ComeBack(plan.jitter, drop=plan.drop is Drop.CLIENT))
        if plan.drop is Drop.CLIENT:
            run.dropped = time.monotonic()
            await conductor.until(lambda: len(record.back) >= opened, BACK_SECONDS + plan.jitter)
        else:
            if plan.drop is Drop.RESTART and conductor.ground.restart is not None:
                run.dropped = time.monotonic()
                conductor.watch.add(await asyncio.to_thread(conductor.ground.restart))
            await conductor.until(lambda: len(record.ended) > run.lost, plan.seconds)
            if len(record.ended) > run.lost:
                run.dropped = run.dropped or record.ended[run.lost].at
            await conductor.until(lambda: _all_back(run, opened), BACK_SECONDS + plan.jitter)
        conductor.end(returning)
        await _stop(conductor, run)
    return run


def _all_back(run: Run, opened: int) -> bool:
    """Return whether all connections are open again, and none was lost for a while."""
    record = run.recording
    quiet = time.monotonic() - max((one.at for one in record.ended), default=0) > QUIET_SECONDS
    return quiet and record.held >= opened


async def _revoke(conductor: Conductor, approval: Approval, identities: Sequence[Identity]) -> Run:
    run = Run(conductor.recording, conductor.watch)
    record = run.recording
    closing = record.phases[1]
    gate = asyncio.Semaphore(AT_ONCE)

    async def revoke(index: int, device_id: str) -> None:
        async with gate:
            run.calls[index] = time.monotonic()
            await approval.revoke(device_id, PROFILE.role or "")

    async with conductor.working():
        await _open(conductor)
        opened = record.phases[0].tally.of(Kind.ADMITTED)
        await conductor.until(lambda: False, SETTLE_SECONDS)
        run.lost = len(record.ended)
        conductor.begin(closing)
        try:
            async with asyncio.TaskGroup() as group:
                for index, identity in enumerate(identities):
                    group.create_task(revoke(index, identity.device_id))
        except ExceptionGroup as group_error:
            raise first_of(group_error, ApprovalError) from None
        await conductor.until(lambda: len(record.ended) >= opened, CLOSED_SECONDS)
        conductor.end(closing)
        await _stop(conductor, run)
    return run


async def _stop(conductor: Conductor, run: Run) -> None:
    run.held = run.recording.held
    conductor.crew.order(Stop())
    await conductor.crew.until_done()
