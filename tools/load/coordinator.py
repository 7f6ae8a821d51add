"""Conducts a run: starts the workers and phases, samples the servers, shows progress."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tools.load.client.dialer import loopback_sources
from tools.load.plan import Hold, holds
from tools.load.recording import PhaseRecord, Recording
from tools.load.server.machine import OtherPrograms
from tools.load.server.processes import Watch
from tools.load.workers.messages import Go, Job, Progress
from tools.load.workers.processes import Workers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from tools.load.client.devices import Identity
    from tools.load.plan import Plan
    from tools.load.report.display import Display
    from tools.load.server.approval import Approval
    from tools.load.server.subject import SystemUnderTest

TICK_SECONDS: Final = 0.5
BEGIN_IN_SECONDS: Final = 0.3
POLL_SECONDS: Final = 0.02


@dataclass(frozen=True, slots=True)
class Stage:
    """What a run does, where, and what it needs for that."""

    plan: Plan
    system: SystemUnderTest
    display: Display
    approval: Approval | None = None
    """Set only for revocations, and for soaks, whose counts would include its connections."""


class Coordinator:
    """One run on one stack."""

    def __init__(
        self, stage: Stage, identities: Sequence[Identity], phases: Sequence[PhaseRecord]
    ) -> None:
        self.plan = stage.plan
        self.system = stage.system
        self.recording = Recording(phases, stage.plan.workers)
        self.watch = Watch(stage.system.watched)
        self._display = stage.display
        self._began = 0.0
        self._current = self.recording.phases[0]
        self.workers_ = Workers(self._jobs(identities), self._heard)

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Start the workers; sample the servers and show progress until the block ends."""
        async with self.workers_:
            self._began = time.monotonic() + BEGIN_IN_SECONDS
            self.workers_.order(Go(self._began))
            await asyncio.sleep(self._began - time.monotonic())
            others = OtherPrograms(item.pid for item in self.watch.watched)
            ticking = asyncio.create_task(self._tick())
            try:
                yield
            finally:
                ticking.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await ticking
                self._last_tick()
                self.watch.others = others.use()
                self._display.close()

    def begin(self, phase: PhaseRecord) -> None:
        """Note the start of a phase and the servers' state."""
        self._current = phase
        phase.begin = self.watch.take()

    def end(self, phase: PhaseRecord) -> None:
        """Note the end of a phase."""
        phase.end = self.watch.take()

    async def until(self, holds: Callable[[], bool], seconds: float) -> bool:
        """Wait until `holds` is true, at most this long; return whether it is. Raises WorkersError."""
        deadline = time.monotonic() + seconds
        while not holds() and time.monotonic() < deadline:
            self.workers_.check()
            await asyncio.sleep(POLL_SECONDS)
        return holds()

    def _heard(self, progress: Progress) -> None:
        self.recording.heard(progress)

    async def _tick(self) -> None:
        while True:
            at = self.watch.take()
            point = self.recording.tick(at)
            if point is not None:
                name = self._current.name
                self._display.point(name, at - self._began, point, self.watch.busy_now())
            await asyncio.sleep(TICK_SECONDS - (time.monotonic() - at))

    def _last_tick(self) -> None:
        """Keep the last incomplete interval, unless it is too short for a rate."""
        points = self.recording.points
        if points and time.monotonic() - points[-1].at > TICK_SECONDS / 2:
            self.recording.tick(self.watch.take())

    def _jobs(self, identities: Sequence[Identity]) -> list[Job]:
        plan, target = self.plan, self.system.target
        targets = [target, *self.system.more_targets]
        sources = loopback_sources(plan.sources) if target.is_loopback else []
        parts: Sequence[Hold | None] = holds(plan) if plan.connections else [None] * plan.workers
        return [
            Job(
                worker=worker,
                workers=plan.workers,
                target=targets[worker % len(targets)],
                sources=sources,
                gateway_token=self.system.gateway_token,
                identities=list(identities),
                timeout=plan.timeout,
                phases=tuple(phase.share(worker, plan.workers) for phase in plan.phases),
                hold=hold,
                cpus=plan.worker_cpus,
            )
            for worker, hold in enumerate(parts)
        ]
