"""A worker's held connections: opened, kept open, and reopened during a storm."""

from __future__ import annotations

import asyncio
import random
import time
from array import array
from collections import deque
from typing import TYPE_CHECKING, Final

from tools.load.client.session import Session, give_up_overdue
from tools.load.client.verdicts import Kind
from tools.load.client.wire import upgrade_request
from tools.load.workers.messages import ComeBack, Ended, Order, Progress
from tools.load.workers.tally import Delta

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tools.load.client.devices import LoadDevice
    from tools.load.client.dialer import Dialer
    from tools.load.plan import Hold
    from tools.load.workers.messages import Job

NO_CLOSE_FRAME: Final = 1006
SWEEP_SECONDS: Final = 0.5
BACK_OFF_SECONDS: Final = 0.25
MAX_BACK_OFF_SECONDS: Final = 2.0
REFERENCE_BACK_OFF_SECONDS: Final = 1.0
MAX_REFERENCE_BACK_OFF_SECONDS: Final = 30.0
"""The reference client waits 1 s, then twice as long after each failure, without jitter."""
TRIES: Final = 5
"""Attempts after which a connection is given up."""
JUDGED: Final = frozenset({Kind.WRONGLY_ADMITTED, Kind.WRONGLY_REFUSED, Kind.REFUSED})
"""Results that another attempt would not change."""
OPENING: Final = 0
COMING_BACK: Final = 1
DROPPED: Final = "dropped"


class Holding:
    """The connections that one worker holds, each in its own slot."""

    def __init__(self, job: Job, hold: Hold, devices: Sequence[LoadDevice], dialer: Dialer) -> None:
        self.upgrade = upgrade_request(job.target.netloc, job.target.path)
        self._job = job
        self._hold = hold
        self._devices = devices
        self._dialer = dialer
        self._loop = asyncio.get_running_loop()
        self._live: dict[Session, None] = {}
        self._held: dict[Session, None] = {}
        slots = range(hold.first_slot, hold.first_slot + hold.connections)
        self._waiting = deque((slot, OPENING) for slot in slots)
        self._timer: asyncio.TimerHandle | None = None
        self._left = hold.connections
        self._fails: dict[int, int] = {}
        self._deltas: dict[int, Delta] = {}
        self._ended: list[Ended] = []
        self._back = array("d")
        self._coming_back: ComeBack | None = None
        self._dropped = 0.0
        self._late = 0.0
        self._next = 0.0
        self._stopping = False
        self._idle = asyncio.Event()

    async def run(self, begin: float) -> None:
        """Open all from `begin` on and hold them until `stop`."""
        await asyncio.sleep(begin - time.monotonic())
        sweeping = self._loop.create_task(self._sweep())
        try:
            self._next = begin
            self._open()
            await self._idle.wait()
        finally:
            sweeping.cancel()

    def order(self, order: Order) -> None:
        """Carry out an order of the coordinator."""
        match order:
            case ComeBack():
                self._coming_back = order
                if order.drop:
                    self._dropped = self._loop.time()
                    for session in list(self._held):
                        session.give_up(DROPPED)
            case _:
                self._stop()

    def progress(self) -> Progress:
        """Return what happened since the previous call."""
        deltas, self._deltas = list(self._deltas.values()), {}
        ended, self._ended = self._ended, []
        back, self._back = self._back, array("d")
        late, self._late = self._late, 0.0
        return Progress(
            worker=self._job.worker,
            at=time.monotonic(),
            cpu=time.process_time(),
            in_flight=len(self._live),
            held=len(self._held),
            to_open=self._left,
            late=late,
            deltas=deltas,
            ended=ended,
            back=back,
        )

    # Owner of sessions.

    def admitted(self, session: Session) -> None:
        self._live.pop(session, None)
        self._held[session] = None
        self._fails.pop(session.slot, None)
        self._count(session)
        if session.phase == COMING_BACK:
            self._back.append(session.decided)
        else:
            self._left -= 1
        if self._stopping:
            session.leave()
        self._open()

    def ended(self, session: Session) -> None:
        if session in self._held:
            del self._held[session]
            self._lost(session)
        else:
            del self._live[session]
            self._count(session)
            if not self._stopping:
                self._try_again(session)
        if self._stopping:
            if not self._live and not self._held:
                self._idle.set()
        else:
            self._open()

    # Internals.

    def _open(self) -> None:
        """Open the next connections, within the limits of concurrency and pace."""
        now = time.monotonic()
        while self._waiting and len(self._live) < self._hold.in_flight:
            if self._hold.pace is not None:
                if self._next > now:
                    if self._timer is None:
                        self._timer = self._loop.call_later(self._next - now, self._due)
                    return
                self._next = max(self._next, now - 1) + 1 / self._hold.pace
            self._begin(*self._waiting.popleft())

    def _due(self) -> None:
        self._timer = None
        self._open()

    def _again(self, slot: int, phase: int, due: float) -> None:
        """Retry, immediately as a client would, unless there is a pace to keep."""
        if self._hold.pace is None:
            self._late = max(self._late, self._loop.time() - due)
            self._begin(slot, phase)
        else:
            self._waiting.append((slot, phase))
            self._open()

    def _again_at(self, due: float, slot: int, phase: int) -> None:
        self._loop.call_at(due, self._again, slot, phase, due)

    def _begin(self, slot: int, phase: int) -> None:
        if self._stopping:
            return
        device = self._devices[slot % len(self._devices)]
        session = Session(self, device, time.monotonic(), phase=phase, slot=slot)
        self._live[session] = None
        self._dialer.dial(session)

    def _lost(self, session: Session) -> None:
        if self._stopping:
            return
        if session.problem != DROPPED:
            code, reason = session.close or (NO_CLOSE_FRAME, session.problem)
            self._ended.append(
                Ended(session.slot, session.device.index, session.over_at, code, reason)
            )
        if self._coming_back is not None:
            wait = random.uniform(0, self._coming_back.jitter)
            if self._coming_back.reference_back_off:
                wait += REFERENCE_BACK_OFF_SECONDS
            ended = self._dropped if session.problem == DROPPED else self._loop.time()
            self._again_at(ended + wait, session.slot, COMING_BACK)

    def _try_again(self, session: Session) -> None:
        slot = session.slot
        fails = self._fails[slot] = self._fails.get(slot, 0) + 1
        opening = session.phase == OPENING
        if opening and (fails == TRIES or session.outcome.kind in JUDGED):
            self._left -= 1
            return
        self._again_at(self._loop.time() + self._wait_seconds(fails), slot, session.phase)

    def _wait_seconds(self, fails: int) -> float:
        """Return how long to wait after so many failures in a row."""
        if self._coming_back is not None and self._coming_back.reference_back_off:
            return min(MAX_REFERENCE_BACK_OFF_SECONDS, REFERENCE_BACK_OFF_SECONDS * 2.0**fails)
        wait = min(MAX_BACK_OFF_SECONDS, BACK_OFF_SECONDS * 2.0 ** (fails - 1))
        return wait * random.uniform(0.5, 1)

    def _count(self, session: Session) -> None:
        delta = self._deltas.get(session.phase)
        if delta is None:
            delta = self._deltas[session.phase] = Delta(session.phase)
        delta.add(session)

    def _stop(self) -> None:
        self._stopping = True
        self._waiting.clear()
        for session in [*self._held, *self._live]:
            if session in self._held:
                session.leave()
            else:
                session.give_up("the run is over")
        if not self._live and not self._held:
            self._idle.set()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            give_up_overdue(self._live, time.monotonic() - self._job.timeout)
            if self._stopping:
                for session in list(self._held):
                    session.give_up("the run is over")
