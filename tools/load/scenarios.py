"""The scenarios, as run by the coordinator: each returns its records."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from tools.load.client.devices import PROFILE
from tools.load.client.verdicts import Kind
from tools.load.coordinator import Coordinator
from tools.load.plan import Drop, Scenario
from tools.load.recording import PhaseRecord
from tools.load.server.approval import ApprovalError
from tools.load.server.leftovers import after_load, before_load
from tools.load.server.observing import observing
from tools.load.server.pairing import AT_ONCE, first_of
from tools.load.workers.messages import ComeBack, Stop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tools.load.client.devices import Identity
    from tools.load.coordinator import Stage
    from tools.load.plan import Phase
    from tools.load.recording import Recording
    from tools.load.server.approval import Approval
    from tools.load.server.leftovers import Leftover
    from tools.load.server.processes import Watch

OPEN_SECONDS: Final = 180.0
OPENED_PER_SECOND: Final = 200
"""Many connections may take longer to open than OPEN_SECONDS, but must reach this rate."""
SETTLE_SECONDS: Final = 1.0
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
    remains: list[Leftover] = field(default_factory=list)


async def run(stage: Stage, identities: Sequence[Identity]) -> Run:
    """Run the planned scenario. Raises WorkersError, Unreachable, ApprovalError."""
    plan = stage.plan
    if plan.scenario is Scenario.SOAK:
        return await _soak(stage, identities)
    if plan.phases:
        return await _churn(stage, identities)
    names = {Scenario.STORM: "reconnecting", Scenario.REVOKE: "revoking"}
    later = names.get(plan.scenario, "holding")
    phases = [PhaseRecord(name, is_churn=False) for name in ("opening", later)]
    coordinator = Coordinator(stage, identities, phases)
    match plan.scenario:
        case Scenario.STORM:
            return await _storm(coordinator)
        case Scenario.REVOKE:
            assert stage.approval is not None
            return await _revoke(coordinator, stage.approval, identities)
        case _:
            return await _idle(coordinator)


async def _soak(stage: Stage, identities: Sequence[Identity]) -> Run:
    """Churn, then check what is left over.

    The warm-up has workers of its own: when they end, all their connections end.
    """

    async def churn(phase: Phase) -> Run:
        return await _churn(replace(stage, plan=replace(stage.plan, phases=(phase,))), identities)

    *warm_up, main = stage.plan.phases
    async with observing(stage.system) as look:
        warmed = [await churn(phase) for phase in warm_up]
        if stage.approval is not None:
            await stage.approval.let_go()
        before = await before_load(look)
        run = await churn(main)
        run.remains = await after_load(look, before)
    run.recording.phases[:0] = [phase for item in warmed for phase in item.recording.phases]
    return run


async def _churn(stage: Stage, identities: Sequence[Identity]) -> Run:
    phases = [PhaseRecord(phase.name, counted=phase.counted) for phase in stage.plan.phases]
    coordinator = Coordinator(stage, identities, phases)
    run = Run(coordinator.recording, coordinator.watch)
    async with coordinator.working():
        done = asyncio.create_task(coordinator.workers_.until_done())
        try:
            at = time.monotonic()
            for phase, planned in zip(run.recording.phases, coordinator.plan.phases, strict=True):
                coordinator.begin(phase)
                at += planned.seconds
                await asyncio.wait([done], timeout=at - time.monotonic())
                coordinator.end(phase)
            await done
        finally:
            done.cancel()
    return run


async def _open(coordinator: Coordinator) -> None:
    """Open all connections; those that fail are left out and show in the outcomes."""
    phase = coordinator.recording.phases[0]
    coordinator.begin(phase)
    seconds = max(OPEN_SECONDS, coordinator.plan.connections / OPENED_PER_SECOND)
    await coordinator.until(lambda: coordinator.recording.opened, seconds)
    coordinator.end(phase)


async def _idle(coordinator: Coordinator) -> Run:
    run = Run(coordinator.recording, coordinator.watch)
    holding = run.recording.phases[1]
    async with coordinator.working():
        await _open(coordinator)
        coordinator.begin(holding)
        await coordinator.until(lambda: False, coordinator.plan.seconds)
        coordinator.end(holding)
        run.lost = len(run.recording.ended)
        await _stop(coordinator, run)
    return run


async def _storm(coordinator: Coordinator) -> Run:
    run = Run(coordinator.recording, coordinator.watch)
    record, plan = run.recording, coordinator.plan
    returning = record.phases[1]
    async with coordinator.working():
        await _open(coordinator)
        opened = record.phases[0].tally.of(Kind.ADMITTED)
        await coordinator.until(lambda: False, SETTLE_SECONDS)
        run.lost = len(record.ended)
        coordinator.begin(returning)
        coordinator.workers_.order(
            ComeBack(
                plan.jitter,
                drop=plan.drop is Drop.CLIENT,
                reference_back_off=plan.reference_back_off,
            )
        )
        if plan.drop is Drop.CLIENT:
            run.dropped = time.monotonic()
            await coordinator.until(
                lambda: len(record.back) >= opened, plan.back_seconds + plan.jitter
            )
        else:
            if plan.drop is Drop.RESTART and coordinator.system.restart is not None:
                run.dropped = time.monotonic()
                coordinator.watch.add(await asyncio.to_thread(coordinator.system.restart))
            await coordinator.until(lambda: len(record.ended) > run.lost, plan.seconds)
            if len(record.ended) > run.lost:
                run.dropped = run.dropped or record.ended[run.lost].at
            await coordinator.until(lambda: _all_back(run, opened), plan.back_seconds + plan.jitter)
        coordinator.end(returning)
        await _stop(coordinator, run)
    return run


def _all_back(run: Run, opened: int) -> bool:
    """Return whether all connections are open again, and none was lost for a while."""
    record = run.recording
    quiet = time.monotonic() - max((item.at for item in record.ended), default=0) > QUIET_SECONDS
    return quiet and record.held >= opened


async def _revoke(
    coordinator: Coordinator, approval: Approval, identities: Sequence[Identity]
) -> Run:
    run = Run(coordinator.recording, coordinator.watch)
    record = run.recording
    closing = record.phases[1]
    gate = asyncio.Semaphore(AT_ONCE)

    async def revoke(index: int, device_id: str) -> None:
        async with gate:
            run.calls[index] = time.monotonic()
            await approval.revoke(device_id, PROFILE.role or "")

    async with coordinator.working():
        await _open(coordinator)
        opened = record.phases[0].tally.of(Kind.ADMITTED)
        await coordinator.until(lambda: False, SETTLE_SECONDS)
        run.lost = len(record.ended)
        coordinator.begin(closing)
        try:
            async with asyncio.TaskGroup() as group:
                for index, identity in enumerate(identities):
                    group.create_task(revoke(index, identity.device_id))
        except ExceptionGroup as group_error:
            raise first_of(group_error, ApprovalError) from None
        await coordinator.until(lambda: len(record.ended) >= opened, CLOSED_SECONDS)
        coordinator.end(closing)
        await _stop(coordinator, run)
    return run


async def _stop(coordinator: Coordinator, run: Run) -> None:
    run.held = run.recording.held
    coordinator.workers_.order(Stop())
    await coordinator.workers_.until_done()
