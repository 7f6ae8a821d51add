"""Virtual time, and the processes that live in it: one thread, one seed, one order of events."""

from __future__ import annotations

import heapq
from collections import Counter
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any, Final

from tests.simulation.loop import ProcessLoop
from tests.simulation.story import Story, Violation

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

EPOCH_MS: Final = 1_700_000_000_000
ROUNDING_SECONDS: Final = 1e-10
"""More than what is lost between the world's time and a process's: no timer fires too early."""
TURNS_LIMIT: Final = 1_000_000
"""More turns than this in one run: something goes round in circles."""


class ProcessClock:
    """One process's clocks: its monotonic one began at boot, its wall clock may be wrong."""

    def __init__(self, world: World, origin: float, skew_ms: int) -> None:
        self._world = world
        self._origin = origin
        self._skew_ms = skew_ms

    def monotonic(self) -> float:
        """Seconds since this process's machine booted."""
        return self._world.now + self._origin

    def wall_ms(self) -> int:
        """Milliseconds since 1970, as this machine believes."""
        return self._world.wall_ms() + self._skew_ms


class Process:
    """A process: its event loop, its clock, and whether it runs, is stopped or is gone."""

    def __init__(self, world: World, name: str, boot_id: str) -> None:
        self.name = name
        self.boot_id = boot_id
        self.stopped = False
        self.gone = False
        origin = world.random.uniform(10.0, 10_000.0)
        self.clock = ProcessClock(world, origin, world.random.choice((0, 0, -600_000, 600_000)))
        self._world = world
        self.behind = -origin
        """What to add to this process's timers for the world's time."""
        self.loop = ProcessLoop(  # type: ignore[abstract]  # sockets and threads it has none
            self._loop_time, self._trouble
        )

    def count(self, rule: str) -> None:
        """Take notice that a rule made a difference."""
        self._world.mattered[rule] += 1

    def start(self, coroutine: Coroutine[Any, Any, Any], name: str) -> None:
        """Run a coroutine in this process; one that raises ends the run as an error."""
        task = self.loop.create_task(coroutine, name=name)
        task.add_done_callback(self._ended)

    def receive(self, callback: Callable[..., object], *args: Any) -> None:
        """Bring something from outside; a stopped process handles it when it wakes."""
        self.loop.receive(callback, *args)

    def stop(self) -> None:
        """Halt it, as SIGSTOP would."""
        self.stopped = True

    def wake(self, seconds: float, *, suspended: bool) -> None:
        """Let it go on after so many seconds; `suspended`: its timers have not seen them."""
        self.stopped = False
        if suspended:
            self.behind += seconds

    def kill(self) -> None:
        """End it without a word."""
        self.gone = True
        self.loop.end()
        self._world.processes.remove(self)

    def _loop_time(self) -> float:
        return self._world.now - self.behind

    def _ended(self, task: Any) -> None:
        if not self.gone and not task.cancelled() and task.exception() is not None:
            self._world.trouble(self.name, f"{task.get_name()} ended with {task.exception()!r}")

    def _trouble(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self._world.trouble(self.name, f"{context.get('message')}: {error!r}")


class World:
    """Time, chance and order."""

    def __init__(self, seed: int, *, told: bool = False) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.now = 0.0
        self.story = Story(lambda: self.now, wanted=told)
        self.processes: list[Process] = []
        self._numbers = count()
        self._events: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self.mattered: Counter[str] = Counter()
        """How often each rule made a difference, by what `__main__` calls it."""
        self._violation: Violation | None = None
        self.turns = 0
        self.turn_seconds = 0.00002
        """How long a turn of a process's loop takes; things arrive meanwhile."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970, as they really are."""
        return EPOCH_MS + round(self.now * 1000)

    def process(self, name: str) -> Process:
        """Start a process with a boot id of its own."""
        boot_id = f"{name.replace(' ', '-')}-{next(self._numbers):x}"
        process = Process(self, name, boot_id)
        self.processes.append(process)
        return process

    def after(self, seconds: float, callback: Callable[..., object], *args: Any) -> None:
        """Call something of the world's own after so many seconds."""
        event = (self.now + seconds, next(self._numbers), callback, args)
        heapq.heappush(self._events, event)

    def violate(self, invariant: str, text: str) -> None:
        """End the run at the next opportunity: an invariant does not hold. The first one counts."""
        if self._violation is None:
            self._violation = Violation(invariant, text)
            self.story.tell("VIOLATED", str(self._violation))

    def trouble(self, who: str, what: str) -> None:
        """End the run: something raised that nobody expected."""
        self.violate("error", f"{who}: {what}")

    def run(self, until: float) -> None:
        """Let time pass up to a moment, in seconds; raises Violation."""
        while True:
            earliest = self._turns(until)
            self._require_soundness()
            if earliest >= until:
                self.now = max(self.now, until)
                return
            self.now = max(self.now, earliest + 10 * ROUNDING_SECONDS)
            self._happen()

    def _require_soundness(self) -> None:
        if self._violation is not None:
            raise self._violation

    def _turns(self, until: float) -> float:
        """Let processes take turns until none has anything to do; returns when the next has."""
        events, processes, draw = self._events, self.processes, self.random.choice
        while self._violation is None:
            earliest = events[0][0] if events else until
            end = self.now - ROUNDING_SECONDS
            ready = []
            for process in processes:
                due = process.loop.due + process.behind
                if process.stopped:
                    continue
                if due <= end:
                    ready.append(process)
                elif due < earliest:
                    earliest = due
            if not ready:
                return earliest
            chosen = ready[0] if len(ready) == 1 else draw(ready)
            chosen.loop.turn()
            self.now += self.turn_seconds
            self.turns += 1
            if self.turns > TURNS_LIMIT:
                self.violate("error", f"{chosen.name} goes round in circles")
            self._happen()
        return self.now

    def _happen(self) -> None:
        events = self._events
        while events and events[0][0] <= self.now:
            _when, _number, callback, args = heapq.heappop(events)
            callback(*args)
