"""The event loop of one simulated process: it takes a turn when the world says so, never by itself.

The order within a turn is asyncio's: what was ready, then what came in, then the timers that are
due. A process that was stopped and wakes therefore handles old messages before its timers (R7).
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextvars import Context

    OnTrouble = Callable[[dict[str, Any]], None]


AT_ONCE: Final = float("-inf")
NEVER: Final = float("inf")


class ProcessLoop(asyncio.AbstractEventLoop):
    """As much of an event loop as the services use; `now` gives its time in seconds."""

    def __init__(self, now: Callable[[], float], on_trouble: OnTrouble) -> None:
        self._now = now
        self._on_trouble = on_trouble
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[asyncio.TimerHandle] = []
        self._incoming: deque[asyncio.Handle] = deque()
        self._over = False
        self.due = NEVER
        """When there is something to do, in this loop's time: `AT_ONCE`, or for the next timer."""

    def receive(self, callback: Callable[..., object], *args: Any) -> None:
        """Take something from outside; it is handled in the next turn, before its timers."""
        if not self._over:
            self._incoming.append(asyncio.Handle(callback, args, self))
            self.due = AT_ONCE

    def turn(self) -> None:
        """Run everything that is ready, came in or is due: once round."""
        if self._incoming:
            self._ready.extend(self._incoming)
            self._incoming.clear()
        end = self._now()
        timers = self._timers
        while timers and timers[0].when() <= end:
            self._ready.append(heapq.heappop(timers))
        ready = self._ready
        asyncio._set_running_loop(self)
        try:
            for _ in range(len(ready)):
                handle = ready.popleft()
                if not handle.cancelled():
                    handle._run()
                if self._over:
                    return
        finally:
            asyncio._set_running_loop(None)
        self._look_ahead()

    def _look_ahead(self) -> None:
        timers = self._timers
        while timers and timers[0].cancelled():
            heapq.heappop(timers)
        if self._ready or self._incoming:
            self.due = AT_ONCE
        else:
            self.due = timers[0].when() if timers else NEVER

    def end(self) -> None:
        """Stop for good, in the middle of whatever it was doing."""
        self._over = True
        self._ready.clear()
        self._incoming.clear()
        self._timers.clear()
        self.due = NEVER

    # ------------------------------------------------------------------- what the services call

    def time(self) -> float:
        """Seconds of this process's timers."""
        return self._now()

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Call in the next turn."""
        handle = asyncio.Handle(callback, args, self, context)
        if not self._over:
            self._ready.append(handle)
            self.due = AT_ONCE
        return handle

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Call in the next turn: there is only one thread."""
        return self.call_soon(callback, *args, context=context)

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call after so many seconds."""
        return self.call_at(self._now() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call at a time of this loop."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        if not self._over:
            heapq.heappush(self._timers, handle)
            self.due = min(self.due, when)
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        """Make a future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Any = None
    ) -> asyncio.Task[Any]:
        """Start a coroutine in the next turn."""
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def get_debug(self) -> bool:
        """Say no."""
        return False

    def is_running(self) -> bool:
        """Say whether it is not over."""
        return not self._over

    def is_closed(self) -> bool:
        """Say whether it is over."""
        return self._over

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Report what nobody handled; a process that was killed reports nothing."""
        if not self._over:
            self._on_trouble(context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Take no notice: a cancelled timer is dropped when its turn comes."""
