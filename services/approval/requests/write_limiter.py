"""Limits concurrent store writes, in fair shares; answers BUSY if the wait would be too long.

Each kind of write has slots and a queue of its own, so a flood of pairing requests delays neither
method calls nor the counting of wrong secrets. Within a kind, waiting clients are served in turn,
and one client never holds all slots.
"""

from __future__ import annotations

import asyncio
import enum
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from services.approval.requests.fair_queue import FairQueue
from shared.rpc.responder import BUSY

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from prometheus_client import Counter

    from services.approval.metrics import Metrics
    from shared.rpc.responder import Reply

    Work = Callable[[], Awaitable[Reply]]


class WriteKind(enum.StrEnum):
    """What is written. The client of a call is its caller, of all others the address."""

    REQUEST = "request"
    """A pairing request, new or refreshed."""
    ADMISSION = "admission"
    """A token for a device that is admitted, or the end of its failure counts."""
    SECRET = "secret"  # noqa: S105 (the name of a kind)
    """Wrong secrets are counted, or a token is checked."""
    CALL = "call"
    """A method call from a socket."""


class Slots(NamedTuple):
    """Max. concurrent writes of a kind: in total, and of one client."""

    total: int
    per_client: int


SLOTS: Final[Mapping[WriteKind, Slots]] = {
    WriteKind.REQUEST: Slots(8, 6),
    WriteKind.ADMISSION: Slots(4, 3),
    WriteKind.SECRET: Slots(4, 3),
    WriteKind.CALL: Slots(4, 3),
}
SLOTS_TOTAL: Final = sum(slots.total for slots in SLOTS.values())
WAIT_SECONDS: Final = 0.5
"""Max. wait for a slot. After that the answer is BUSY, and gateways try another replica."""
QUEUE_LIMIT_WRITES: Final = 1_024
"""Max. waiting writes of a kind. Beyond it, the client with the most loses its newest one."""
_SMOOTHING: Final = 8
"""Number of recent jobs over which their duration is averaged, approximately."""


class Dropped(enum.StrEnum):
    """Why a write was answered BUSY."""

    EXPECTED_WAIT = "expected-wait"
    """At once: its turn would not have come in time."""
    WAITED = "waited"
    """After WAIT_SECONDS: others came first."""
    LARGEST_SHARE = "largest-share"
    """The queue was full, and its client held the largest part of it."""


class WriteLimiter:
    """Runs work when its client's turn comes; one queue for each kind of write."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        slots: Mapping[WriteKind, Slots] = SLOTS,
        wait_seconds: float = WAIT_SECONDS,
        queue_limit: int = QUEUE_LIMIT_WRITES,
    ) -> None:
        self._lanes = {}
        for kind, number in slots.items():
            dropped = {why: metrics.writes_dropped.labels(kind, why) for why in Dropped}
            lane = _Lane(number, wait_seconds, queue_limit, dropped)
            metrics.writes_waiting.labels(kind).set_function(partial(len, lane.waiting))
            self._lanes[kind] = lane

    @property
    def under_way(self) -> int:
        """Number of jobs accepted and not yet finished."""
        return sum(lane.running + len(lane.waiting) for lane in self._lanes.values())

    def reply(self, kind: WriteKind, client: str, work: Work) -> Reply | asyncio.Future[Reply]:
        """Start work once a slot is free; return BUSY at once if that would take too long."""
        return self._lanes[kind].reply(client, work)


class _Waiting:
    """A job in the queue, and the future that its reply is set on."""

    __slots__ = ("client", "due_at", "reply", "task", "work")

    def __init__(
        self, client: str, work: Work, reply: asyncio.Future[Reply], due_at: float
    ) -> None:
        self.client = client
        self.work = work
        self.reply = reply
        self.due_at = due_at
        self.task: asyncio.Future[Reply] | None = None


class _Lane:
    """The slots and the queue of one kind of write.

    One timer serves the whole queue: all jobs may wait equally long, so the one that arrived first
    is due first.
    """

    def __init__(
        self,
        slots: Slots,
        wait_seconds: float,
        queue_limit: int,
        dropped: Mapping[Dropped, Counter],
    ) -> None:
        self.running = 0
        self.waiting: Final[FairQueue[_Waiting]] = FairQueue()
        self._slots = slots
        self._wait_seconds = wait_seconds
        self._queue_limit = queue_limit
        self._dropped = dropped
        self._running_of: dict[str, int] = {}
        self._arrived: dict[_Waiting, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._average_seconds = 0.0

    def reply(self, client: str, work: Work) -> Reply | asyncio.Future[Reply]:
        if self.running < self._slots.total and self._may_run(client):
            return self._start(client, work)
        if self._expected_seconds(client) > self._wait_seconds:
            self._dropped[Dropped.EXPECTED_WAIT].inc()
            return BUSY
        if len(self.waiting) >= self._queue_limit:
            largest, newest = self.waiting.newest_of_largest()
            if self.waiting.count(client) + 1 >= self.waiting.count(largest):
                self._dropped[Dropped.LARGEST_SHARE].inc()
                return BUSY
            self._drop(newest, Dropped.LARGEST_SHARE)
        return self._enqueue(client, work)

    def _may_run(self, client: str) -> bool:
        return self._running_of.get(client, 0) < self._slots.per_client

    def _expected_seconds(self, client: str) -> float:
        """Return how long a new job of this client would wait, if jobs take as long as before."""
        in_turn = (self.waiting.ahead(client) + 1) / self._slots.total
        of_its_own = (self.waiting.count(client) + 1) / self._slots.per_client
        return max(in_turn, of_its_own) * self._average_seconds

    def _start(self, client: str, work: Work) -> asyncio.Future[Reply]:
        self.running += 1
        self._running_of[client] = self._running_of.get(client, 0) + 1
        task = asyncio.ensure_future(work())
        task.add_done_callback(partial(self._finished, client, task.get_loop().time()))
        return task

    def _finished(self, client: str, began: float, task: asyncio.Future[Reply]) -> None:
        seconds = task.get_loop().time() - began
        self._average_seconds += (seconds - self._average_seconds) / _SMOOTHING
        self.running -= 1
        if self._running_of[client] == 1:
            del self._running_of[client]
        else:
            self._running_of[client] -= 1
        while self.running < self._slots.total:
            taken = self.waiting.take(self._may_run)
            if taken is None:
                return
            _client, job = taken
            del self._arrived[job]
            if not job.reply.done():  # otherwise it was cancelled in this turn
                job.task = self._start(job.client, job.work)
                job.task.add_done_callback(partial(_pass_on, job.reply))

    def _enqueue(self, client: str, work: Work) -> asyncio.Future[Reply]:
        loop = asyncio.get_running_loop()
        job = _Waiting(client, work, loop.create_future(), loop.time() + self._wait_seconds)
        job.reply.add_done_callback(partial(self._on_reply_done, job))
        self.waiting.add(client, job)
        self._arrived[job] = None
        if self._timer is None:
            self._timer = loop.call_at(job.due_at, self._end_overdue)
        return job.reply

    def _end_overdue(self) -> None:
        """Answer BUSY for jobs that have waited too long; wait for the next one to be due."""
        self._timer = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._arrived:
            job = next(iter(self._arrived))
            if job.due_at > now:
                self._timer = loop.call_at(job.due_at, self._end_overdue)
                return
            self._drop(job, Dropped.WAITED)

    def _on_reply_done(self, job: _Waiting, reply: asyncio.Future[Reply]) -> None:
        """End a job that nobody waits for any longer."""
        if not reply.cancelled():
            return
        if job in self._arrived:
            self._forget(job)
        elif job.task is not None:
            job.task.cancel()

    def _drop(self, job: _Waiting, why: Dropped) -> None:
        self._forget(job)
        if not job.reply.done():
            self._dropped[why].inc()
            job.reply.set_result(BUSY)

    def _forget(self, job: _Waiting) -> None:
        self.waiting.remove(job.client, job)
        del self._arrived[job]


def _pass_on(reply: asyncio.Future[Reply], task: asyncio.Future[Reply]) -> None:
    """Set a task's outcome on the future that was returned for it."""
    if reply.done():
        return
    if task.cancelled():
        reply.cancel()
    elif (error := task.exception()) is not None:
        reply.set_exception(error)
    else:
        reply.set_result(task.result())
