"""Virtual time and the processes that live in it: one thread, one seed, one order of events."""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any, Final

from tests.simulation.engine.loop import ProcessLoop
from tests.simulation.engine.story import Story, Violation

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

EPOCH_MS: Final = 1_700_000_000_000
TURNS_LIMIT: Final = 1_000_000
"""More turns than this in one run indicate an endless loop."""


class ProcessClock:
    """One process's clocks: its monotonic one began at boot, its wall clock may be wrong."""

    def __init__(self, world: World, origin: float, skew_ms: int) -> None:
        self._world = world
        self._origin = origin
        self.skew_ms = skew_ms

    def monotonic(self) -> float:
        """Seconds since this process's machine booted."""
        return self._world.now + self._origin

    def wall_ms(self) -> int:
        """Milliseconds since 1970, as this machine believes."""
        return self._world.wall_ms() + self.skew_ms

    def wall_ns(self) -> int:
        """Nanoseconds since 1970, as this machine believes."""
        return self.wall_ms() * 1_000_000


class Process:
    """A process: its event loop, its clock, and whether it runs, is stopped or has ended."""

    def __init__(self, world: World, name: str, boot_id: str) -> None:
        self.name = name
        self.boot_id = boot_id
        self.stopped = False
        self.gone = False
        origin = world.random.uniform(10.0, 10_000.0)
        self.clock = ProcessClock(world, origin, world.random.choice((0, 0, -600_000, 600_000)))
        self._world = world
        self.loop = ProcessLoop(  # type: ignore[abstract]  # sockets and threads it has none
            world, self, -origin
        )
        self.receive = self.loop.receive
        """Delivers input from outside; a stopped process handles it when it continues."""

    def count(self, rule: str) -> None:
        """Count that a rule made a difference."""
        self._world.mattered[rule] += 1

    def start(self, coroutine: Coroutine[Any, Any, Any], name: str) -> None:
        """Run a coroutine in this process; an exception ends the run as an error."""
        task = self.loop.create_task(coroutine, name=name)
        task.add_done_callback(self._ended)

    def stop(self) -> None:
        """Stop it, as SIGSTOP would."""
        self.stopped = True
        self.loop.rest()

    def wake(self, seconds: float, *, suspended: bool) -> None:
        """Continue it after this many seconds; `suspended`: its timers did not advance."""
        self.stopped = False
        if suspended:
            self.loop.behind += seconds
        self.loop.rouse()

    def kill(self) -> None:
        """End it without notice."""
        self.gone = True
        self.loop.end()

    def trouble(self, context: dict[str, Any]) -> None:
        """End the run because of an unhandled exception."""
        error = context.get("exception")
        self._world.trouble(self.name, f"{context.get('message')}: {error!r}")

    def _ended(self, task: Any) -> None:
        if not self.gone and not task.cancelled() and task.exception() is not None:
            self._world.trouble(self.name, f"{task.get_name()} ended with {task.exception()!r}")


class World:
    """Time, chance and order."""

    def __init__(self, seed: int, *, with_story: bool = False) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.now = 0.0
        self.story = Story(lambda: self.now, wanted=with_story)
        self.awake: list[ProcessLoop] = []
        """The loops with work to do now."""
        self.running: ProcessLoop | None = None
        """The loop that took the last turn."""
        self._processes: list[Process] = []
        self._numbers = count()
        self._events: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self.mattered: Counter[str] = Counter()
        """How often each rule made a difference, by its name in `__main__`."""
        self._violation: Violation | None = None
        self.turns = 0
        self.slow_until = 0.0
        """When the last message delayed by a fault arrives."""
        self.turn_seconds = 0.00002
        """The duration of one turn of a process's loop; messages arrive meanwhile."""

    def wall_ms(self) -> int:
        """Return the true time, in milliseconds since 1970."""
        return EPOCH_MS + round(self.now * 1000)

    def process(self, name: str) -> Process:
        """Start a process with a boot id of its own."""
        boot_id = f"{name.replace(' ', '-')}-{next(self._numbers):x}"
        process = Process(self, name, boot_id)
        self._processes.append(process)
        return process

    def end(self) -> None:
        """End all processes: the run is over."""
        for process in self._processes:
            process.kill()

    def after(self, seconds: float, callback: Callable[..., object], *args: Any) -> None:
        """Call a function of the world itself after this many seconds."""
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), callback, args))

    def at(self, when: float, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        """Call a function of the world itself at a moment."""
        heapq.heappush(self._events, (when, next(self._numbers), callback, args))

    def violate(self, invariant: str, text: str) -> None:
        """End the run at the next opportunity for a violation; the first one counts."""
        if self._violation is None:
            self._violation = Violation(invariant, text)
            self.story.tell("VIOLATED", str(self._violation))

    def trouble(self, who: str, description: str) -> None:
        """End the run because of an unexpected exception."""
        self.violate("error", f"{who}: {description}")

    def run(self, until: float) -> None:
        """Run up to a moment, in seconds; raises Violation.

        Due events happen first; then one of the processes with work takes a turn; if none has work,
        time advances to the next event.
        """
        events, awake = self._events, self.awake
        try:
            while self._violation is None:
                now = self.now
                while events and events[0][0] <= now:
                    _when, _number, callback, args = heapq.heappop(events)
                    callback(*args)
                if awake:
                    index = 0 if len(awake) == 1 else int(self.random.random() * len(awake))
                    if not awake[index].turn():
                        del awake[index]
                    self.now += self.turn_seconds
                    self.turns += 1
                    if self.turns > TURNS_LIMIT:
                        self.violate("error", "processes go round in circles")
                elif events and events[0][0] < until:
                    self.now = events[0][0]
                else:
                    self.now = max(now, until)
                    break
        finally:
            asyncio._set_running_loop(None)
            self.running = None
        if self._violation is not None:
            raise self._violation
