"""Who can be asked: the approval replicas heard of lately, in turn. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from shared.clock import Clock

HEARD_SECONDS: Final = 3.0
"""How long a replica counts as live after it was last heard; it announces itself each second."""
DOUBT_SECONDS: Final = 10.0
"""How long at most a replica stays at the end of the line, where it may never be asked again."""
RESPONDERS_LIMIT: Final = 256
UNREACHED_LIMIT: Final = 3
"""A replica that is heard anew and yet not reached, so often in a row, listens somewhere else."""


class ResponderPool:
    """The line of live responders. Who is chosen goes to its end.

    A responder that let a try time out is chosen only if there is no other, until it answers
    something or DOUBT_SECONDS have passed: a stopped process still has its subscribers.
    """

    def __init__(self, clock: Clock, on_astray: Callable[[], None] = lambda: None) -> None:
        """Start with nobody. `on_astray` is called when one is heard but cannot be reached."""
        self._clock = clock
        self._on_astray = on_astray
        self._unreached: dict[str, int] = {}
        self._heard: dict[str, float] = {}
        self._gone: dict[str, float] = {}
        self._doubted: dict[str, float] = {}

    def seen(self, boot_id: str) -> None:
        """Note that a replica announced itself just now."""
        now = self._clock.monotonic()
        self._gone.pop(boot_id, None)
        if boot_id not in self._heard and len(self._heard) >= RESPONDERS_LIMIT:
            self._forget_silent(now)
            if len(self._heard) >= RESPONDERS_LIMIT:
                return
        self._heard[boot_id] = now

    def answered(self, boot_id: str) -> None:
        """Note that a replica answered: it is live and works."""
        self._doubted.pop(boot_id, None)
        self._unreached.pop(boot_id, None)
        if boot_id in self._heard:
            self._heard[boot_id] = self._clock.monotonic()

    def timed_out(self, boot_id: str) -> None:
        """Put a replica that did not answer in time to the end of the line."""
        if boot_id in self._heard:
            self._doubted[boot_id] = self._clock.monotonic()
            self._to_end(boot_id)

    def gone(self, boot_id: str) -> None:
        """Take a replica nobody listens for out of the line, until it is heard again."""
        heard = self._heard.pop(boot_id, None)
        self._doubted.pop(boot_id, None)
        if heard is not None:
            self._gone[boot_id] = heard

    def no_responders(self, boot_id: str) -> None:
        """Note that nobody listened where a replica was asked.

        If it is heard all the same, again and again, its news comes here from another server, and
        what is published here does not go there: a failover moved it and not us.
        """
        if boot_id in self._heard:
            count = self._unreached.get(boot_id, 0) + 1
            self._unreached[boot_id] = count % UNREACHED_LIMIT
            if count == UNREACHED_LIMIT:
                self._on_astray()
        self.gone(boot_id)

    def choose(self, exclude: Container[str] = ()) -> str | None:
        """Take the next in line that is not in `exclude`; None if there is nobody."""
        now = self._clock.monotonic()
        self._forget_silent(now)
        last_resort = None
        for boot_id in self._heard:
            if boot_id in exclude:
                continue
            doubted = self._doubted.get(boot_id)
            if doubted is None or now - doubted >= DOUBT_SECONDS:
                return self._to_end(boot_id)
            last_resort = last_resort or boot_id
        return self._to_end(last_resort) if last_resort is not None else None

    def live(self) -> list[str]:
        """List all that were heard lately, the next in line first."""
        self._forget_silent(self._clock.monotonic())
        return list(self._heard)

    def expected(self) -> bool:
        """Whether one that was heard lately is gone: it may be back, or another in its place."""
        self._forget_silent(self._clock.monotonic())
        return bool(self._gone)

    def _to_end(self, boot_id: str) -> str:
        self._heard[boot_id] = self._heard.pop(boot_id)
        return boot_id

    def _forget_silent(self, now: float) -> None:
        for line in (self._heard, self._gone):
            for boot_id in [b for b, heard in line.items() if now - heard > HEARD_SECONDS]:
                del line[boot_id]
                self._doubted.pop(boot_id, None)
                self._unreached.pop(boot_id, None)
