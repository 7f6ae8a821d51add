"""A worker's churn: attempts in a closed or open loop; admitted ones are closed at once."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
from bisect import bisect_left
from itertools import cycle
from typing import TYPE_CHECKING, Final

from tools.load.client.session import Session, give_up_overdue
from tools.load.client.verdicts import Kind, Outcome
from tools.load.client.wire import upgrade_request
from tools.load.workers.messages import Progress
from tools.load.workers.tally import Delta

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tools.load.client.devices import LoadDevice
    from tools.load.client.dialer import Dialer
    from tools.load.plan import Phase
    from tools.load.workers.messages import Job, Order

AFTER_FAILURE_SECONDS: Final = 0.05
"""Pause of a closed loop after a failure, to avoid a busy loop if the target is down."""
SWEEP_SECONDS: Final = 0.1
STARTS_AT_ONCE: Final = 16
"""Attempts at a rate that are started before answers are read again."""
ROUNDING: Final = 1e-6
"""In seconds: a start due at the very end belongs to the next phase."""
NOT_STARTED: Final = Outcome(Kind.FAILED, "not started in time: too many in flight")


class Churn:
    """The phases of one worker, one after another."""

    def __init__(self, job: Job, devices: Sequence[LoadDevice], dialer: Dialer) -> None:
        self.upgrade = upgrade_request(job.target.netloc, job.target.path)
        self._job = job
        self._devices = cycle(devices)
        self._dialer = dialer
        self._loop = asyncio.get_running_loop()
        self._live: dict[Session, None] = {}
        self._deltas: dict[int, Delta] = {}
        self._late = 0.0
        self._phase: Phase | None = None
        self._index = 0
        self._until = 0.0
        self._ends: list[float] = []
        self._next = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._stopped = asyncio.Event()

    async def run(self, begin: float) -> None:
        """Run all phases from `begin` on, then wait for open attempts."""
        sweeping = self._loop.create_task(self._sweep())
        try:
            at = begin
            for index, phase in enumerate(self._job.phases):
                self._ends.append(at + phase.seconds)
                await self._until_time(at)
                self._start(index, phase, at)
                at += phase.seconds
                await self._until_time(at)
                self._finish()
            if self._live:
                self._idle.clear()
                await self._idle.wait()
        finally:
            sweeping.cancel()

    def order(self, order: Order) -> None:
        """Handle an order; during churn only Stop is possible."""
        del order
        self._stopped.set()
        self._finish()
        for session in list(self._live):
            session.give_up("the run is over")

    def progress(self) -> Progress:
        """Return what happened since the previous call."""
        deltas, self._deltas = list(self._deltas.values()), {}
        late, self._late = self._late, 0.0
        return Progress(
            worker=self._job.worker,
            at=time.monotonic(),
            cpu=time.process_time(),
            in_flight=len(self._live),
            late=late,
            deltas=deltas,
        )

    # Owner of sessions.

    def admitted(self, session: Session) -> None:
        session.leave()

    def ended(self, session: Session) -> None:
        del self._live[session]
        if self._delta(session.phase).add(session):
            lasting = bisect_left(self._ends, session.decided)
            if lasting < len(self._ends):
                self._delta(lasting).verdicts += 1
        if self._phase is not None:
            if session.decided:
                self._go_on()
            else:
                self._loop.call_later(AFTER_FAILURE_SECONDS, self._go_on)
        elif not self._live:
            self._idle.set()

    # Internals.

    async def _until_time(self, at: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(at - time.monotonic()):
                await self._stopped.wait()

    def _start(self, index: int, phase: Phase, at: float) -> None:
        if self._stopped.is_set():
            return
        self._index, self._phase = index, phase
        self._until = at + phase.seconds
        # Workers take turns, so that together they keep an even pace.
        offset = 0.0 if phase.rate is None else self._job.worker / self._job.workers / phase.rate
        self._next = at + offset
        self._go_on()

    def _finish(self) -> None:
        phase, self._phase = self._phase, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if phase is not None and phase.is_open and phase.rate is not None:
            missed = math.ceil((self._until - self._next - ROUNDING) * phase.rate)
            if missed > 0:
                self._delta(self._index).outcomes[NOT_STARTED] += missed

    def _go_on(self) -> None:
        """Start what is due, and schedule the next start."""
        phase = self._phase
        if phase is None:
            return
        now = time.monotonic()
        due = STARTS_AT_ONCE
        while len(self._live) < phase.in_flight:
            if phase.rate is None:
                self._begin(now)
            elif self._next >= self._until - ROUNDING:
                return
            elif self._next <= now:
                due -= 1
                if due < 0:  # answers of the others come first
                    if self._timer is None:
                        self._timer = self._loop.call_later(0, self._due)
                    return
                self._late = max(self._late, now - self._next)
                self._begin(self._next if phase.is_open else now)
                gap = random.expovariate(phase.rate) if phase.poisson else 1 / phase.rate
                self._next = (self._next if phase.is_open else now) + gap
            else:
                if self._timer is None:
                    self._timer = self._loop.call_later(self._next - now, self._due)
                return

    def _due(self) -> None:
        self._timer = None
        self._go_on()

    def _begin(self, at: float) -> None:
        session = Session(self, next(self._devices), at, phase=self._index)
        self._live[session] = None
        self._dialer.dial(session)

    def _delta(self, phase: int) -> Delta:
        delta = self._deltas.get(phase)
        if delta is None:
            delta = self._deltas[phase] = Delta(phase)
        return delta

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            give_up_overdue(self._live, time.monotonic() - self._job.timeout)
