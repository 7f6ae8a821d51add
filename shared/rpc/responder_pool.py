"""The approval replicas seen recently, in round-robin order. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from shared.clock import Clock

HEARD_SECONDS: Final = 3.0
"""How long a replica counts as live after it was last seen; it sends an event each second."""
DOUBT_SECONDS: Final = 10.0
"""Maximum time at the end of the queue, where a replica may never be asked again."""
RESPONDERS_LIMIT: Final = 256
UNREACHED_LIMIT: Final = 3
"""Failed attempts after which a replica that is still seen is reported as unreachable."""


class ResponderPool:
    """A round-robin queue of live responders.

    A responder that timed out is chosen only if there is no other, until it answers or
    DOUBT_SECONDS have passed: a stopped process is still subscribed to its channel.
    """

    def __init__(self, clock: Clock, on_astray: Callable[[], None] = lambda: None) -> None:
        """Create an empty pool. `on_astray` is called for a seen but unreachable replica."""
        self._clock = clock
        self._on_astray = on_astray
        self._unreached: dict[str, int] = {}
        self._heard: dict[str, float] = {}
        self._gone: dict[str, float] = {}
        self._doubted: dict[str, float] = {}

    def seen(self, boot_id: str) -> None:
        """Note that a replica has just announced itself."""
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
        """Move a replica that did not answer in time to the end of the queue."""
        if boot_id in self._heard:
            self._doubted[boot_id] = self._clock.monotonic()
            self._to_end(boot_id)

    def gone(self, boot_id: str) -> None:
        """Remove a replica without subscribers until it is seen again."""
        heard = self._heard.pop(boot_id, None)
        self._doubted.pop(boot_id, None)
        if heard is not None:
            self._gone[boot_id] = heard

    def no_responders(self, boot_id: str) -> None:
        """Note that nothing was subscribed to the channel of a replica.

        If the replica's events keep arriving, the two Redis connections lead to different servers
        after a failover: events come from one, and publishing goes to another.
        """
        if boot_id in self._heard:
            count = self._unreached.get(boot_id, 0) + 1
            self._unreached[boot_id] = count % UNREACHED_LIMIT
            if count == UNREACHED_LIMIT:
                self._on_astray()
        self.gone(boot_id)

    def choose(self, exclude: Container[str] = ()) -> str | None:
        """Return the next replica that is not in `exclude`; None if there is none."""
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
        """Return all replicas seen recently, the next one first."""
        self._forget_silent(self._clock.monotonic())
        return list(self._heard)

    def expected(self) -> bool:
        """Return whether a replica disappeared recently: it, or its replacement, may return."""
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
