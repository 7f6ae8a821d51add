"""A worker's churn: attempts in a closed or open loop; admitted ones are closed at once."""

from __future__ import annotations

import asyncio
import contextlib
import time
from bisect import bisect_left
from itertools import cycle
from typing import TYPE_CHECKING, Final

from tools.load.client.session import Session, give_up_overdue
from tools.load.client.verdicts import Kind, Outcome
from tools.load.client.wire import upgrade_request
from tools.load.workers.alarm import Alarm
from tools.load.workers.arrivals import arrivals
from tools.load.workers.messages import Progress
from tools.load.workers.tally import Delta

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tools.load.client.devices import LoadDevice
    from tools.load.client.dialer import Dialer
    from tools.load.plan import Phase
    from tools.load.workers.messages import Job, Order

AFTER_FAILURE_SECONDS: Final = 0.05
"""Pause of a closed loop after a failure, to avoid a busy loop if the target is down."""
SWEEP_SECONDS: Final = 0.1
STARTS_AT_ONCE: Final = 16
"""Attempts at a rate that are started before answers are read again."""
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
        self._began = 0.0
        self._next = 0.0
        self._arrivals: Iterator[float] | None = None
        self._arrival: float | None = None
        self._has_room = True
        self._alarm = Alarm(self._go_on)
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
            self._alarm.close()

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
            if self._arrivals is not None:
                if not self._has_room:
                    self._go_on()
            elif session.decided:
                self._go_on()
            else:
                self._loop.call_later(AFTER_FAILURE_SECONDS, self._go_on)
        elif not self._live:
            self._idle.set()

    # Internals.

    async def _until_time(self, at: float) -> None:
        """Wait until this time, or the order to stop. Timers of the loop may be 1 ms early."""
        while not self._stopped.is_set() and (left := at - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._stopped.wait()

    def _start(self, index: int, phase: Phase, at: float) -> None:
        if self._stopped.is_set():
            return
        self._index, self._phase = index, phase
        self._until = at + phase.seconds
        self._began = at
        self._arrivals = None
        if phase.is_open:
            self._arrivals = arrivals(
                phase, index=index, worker=self._job.worker, workers=self._job.workers
            )
            self._arrival = next(self._arrivals, None)
        elif phase.rate is not None:
            self._next = at + self._job.worker / self._job.workers / phase.rate
        self._go_on()

    def _finish(self) -> None:
        if self._arrivals is not None:
            self._go_on()  # for those that have arrived since the alarm was last handled
            if self._arrival is not None:
                missed = 1 + sum(1 for _ in self._arrivals)
                self._delta(self._index).outcomes[NOT_STARTED] += missed
        self._phase = None
        self._arrivals = None
        self._alarm.cancel()

    def _go_on(self) -> None:
        """Start what is due, and schedule the next start."""
        phase = self._phase
        if phase is None:
            return
        if self._arrivals is not None:
            self._start_arrivals(phase, self._arrivals)
        elif phase.rate is None:
            while len(self._live) < phase.in_flight:
                self._begin(time.monotonic())
        else:
            self._start_paced(phase, phase.rate)

    def _start_arrivals(self, phase: Phase, later: Iterator[float]) -> None:
        """Start all of an open loop that have arrived, whether or not earlier ones have ended."""
        for _ in range(STARTS_AT_ONCE):
            if self._arrival is None:
                return
            self._has_room = len(self._live) < phase.in_flight
            if not self._has_room:
                return
            due = self._began + self._arrival
            late = time.monotonic() - due
            if late < 0:
                self._alarm.set(due)
                return
            self._late = max(self._late, late)
            self._delta(self._index).add_start(late)
            self._begin(due)
            self._arrival = next(later, None)
        self._alarm.set(self._began)  # in the next iteration: answers of the others come first

    def _start_paced(self, phase: Phase, rate: float) -> None:
        """Start those of a closed loop, at most this many per second."""
        while len(self._live) < phase.in_flight and self._next < self._until:
            now = time.monotonic()
            if self._next > now:
                self._alarm.set(self._next)
                return
            self._late = max(self._late, now - self._next)
            self._begin(now)
            self._next = now + 1 / rate

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
