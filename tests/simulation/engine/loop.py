"""The event loop of one simulated process: it takes a turn when the world says so, never by itself.

The order within a turn is asyncio's: ready callbacks, then input, then the timers that are due.
A process that was stopped and wakes therefore handles old messages before its timers (R7).
Contexts are left out, as no service uses context variables.
"""

from __future__ import annotations

import asyncio
import heapq
from inspect import CORO_CREATED, getcoroutinestate
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from tests.simulation.engine.world import Process, World

NEVER: Final = float("inf")
ROUNDING_SECONDS: Final = 1e-9
"""More than the rounding error between the world's time and a process's: no timer runs early."""

_run_in = asyncio._set_running_loop


class Call(asyncio.TimerHandle):
    """A scheduled callback, without a real handle's debugging data."""

    __slots__ = ()

    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...], when: float) -> None:
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._when = when

    def cancel(self) -> None:
        """Cancel the callback."""
        self._cancelled = True


class ProcessLoop(asyncio.AbstractEventLoop):
    """The part of an event loop that the services use.

    `behind`: the world's time minus this loop's time, in seconds.
    """

    def __init__(self, world: World, process: Process, behind: float) -> None:
        self.behind = behind
        self._world = world
        self._process = process
        self._ready: list[Call] = []
        self._incoming: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
        self._timers: list[tuple[float, int, Call]] = []
        self._made = 0
        self._awake = False
        self._alarm = NEVER
        """When the next turn was requested from the world, in this loop's time."""
        self._over = False

    def receive(self, callback: Callable[..., object], *args: Any) -> None:
        """Receive input from outside; it is handled in the next turn, before timers."""
        if not self._over:
            self._incoming.append((callback, args))
            if not self._awake:
                self.rouse()

    def rouse(self) -> None:
        """Ask for a turn."""
        if not (self._awake or self._over or self._process.stopped):
            self._awake = True
            self._world.awake.append(self)

    def rest(self) -> None:
        """Take no turns until roused."""
        if self._awake:
            self._awake = False
            self._world.awake.remove(self)

    def turn(self) -> bool:
        """Run everything that is ready, received or due once; returns whether more is ready."""
        ready, incoming, due = self._ready, self._incoming, self._due()
        self._ready, self._incoming = [], []
        if self._world.running is not self:
            self._world.running = self
            _run_in(self)
        for call in ready:
            if not call._cancelled:
                call._callback(*call._args)
        for callback, args in incoming:
            callback(*args)
        for call in due:
            if not call._cancelled:
                call._callback(*call._args)
        timers = self._timers
        if self._ready or self._incoming:
            return True
        self._awake = False
        if timers and timers[0][0] < self._alarm:
            self._set_alarm()
        return False

    def _due(self) -> Sequence[Call]:
        """Return the timers that are due, removing them."""
        timers = self._timers
        end = self._world.now - self.behind
        if not timers or timers[0][0] > end:
            return ()
        due = []
        while timers and timers[0][0] <= end:
            due.append(heapq.heappop(timers)[2])
        return due

    def _set_alarm(self) -> None:
        """Ask the world for a turn when the first timer is due."""
        timers = self._timers
        while timers and timers[0][2]._cancelled:
            heapq.heappop(timers)
        if timers and timers[0][0] < self._alarm:
            when = self._alarm = timers[0][0]
            self._world.at(when + self.behind + ROUNDING_SECONDS, self._ring, (when,))

    def _ring(self, when: float) -> None:
        if when == self._alarm:
            self._alarm = NEVER
            timers = self._timers
            while timers and timers[0][2]._cancelled:
                heapq.heappop(timers)
            if timers and timers[0][0] <= self._world.now - self.behind:
                self.rouse()
            elif timers:
                self._set_alarm()

    def end(self) -> None:
        """Stop for good."""
        self.rest()
        self._over = True
        for call in self._ready:
            task = getattr(call._callback, "__self__", None)
            coroutine: Any = task.get_coro() if isinstance(task, asyncio.Task) else None
            if coroutine is not None and getcoroutinestate(coroutine) == CORO_CREATED:
                coroutine.close()  # it will never be started
        self._ready.clear()
        self._incoming.clear()
        self._timers.clear()

    # ------------------------------------------------------------------- what the services call

    def time(self) -> float:
        """Seconds of this process's timers."""
        return self._world.now - self.behind

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: object = None
    ) -> Call:
        """Call in the next turn."""
        call = Call(callback, args, 0.0)
        if not self._over:
            self._ready.append(call)
            if not self._awake:
                self.rouse()
        return call

    call_soon_threadsafe = call_soon  # type: ignore[assignment]  # there is only one thread

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: object = None
    ) -> Call:
        """Call after this many seconds."""
        return self.call_at(self._world.now - self.behind + delay, callback, *args)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: object = None
    ) -> Call:
        """Call at a time of this loop."""
        call = Call(callback, args, when)
        if not self._over:
            self._made += 1
            heapq.heappush(self._timers, (when, self._made, call))
            if not self._awake and when < self._alarm:
                self._set_alarm()
        return call

    def create_future(self) -> asyncio.Future[Any]:
        """Create a future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: object = None
    ) -> asyncio.Task[Any]:
        """Start a coroutine in the next turn."""
        return asyncio.Task(coro, loop=self, name=name)

    get_debug = bool  # called for each future, so it must be fast

    def is_running(self) -> bool:
        """Return whether the loop has not ended."""
        return not self._over

    def is_closed(self) -> bool:
        """Return whether the loop has ended."""
        return self._over

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Report an unhandled error, unless the process was killed."""
        if not self._over:
            self._process.trouble(context)
