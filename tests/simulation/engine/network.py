"""Connections to Redis and what can happen to data on them, for each direction separately."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.engine.world import World
    from tests.simulation.redis.server import Server

MIN_SECONDS: Final = 0.0002
SPREAD_SECONDS: Final = 0.0028
"""The latency of one direction without faults: minimum and maximum addition."""


class Way:
    """One direction of one connection.

    `loses`, `doubles`: probabilities. `slow_seconds`: maximum delay, drawn for each message, so
    that messages overtake each other. `cut`: nothing passes; `keeps`: what was sent meanwhile
    arrives when the way is restore_stack, as with TCP.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = world.random
        self._held: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
        self.loses = 0.0
        self.doubles = 0.0
        self.slow_seconds = 0.0
        self.cut = False
        self.keeps = False

    @property
    def holds(self) -> bool:
        """Whether messages are held back."""
        return bool(self._held)

    def holds_for(self, channel: str) -> bool:
        """Whether a message for a channel is held back."""
        return any(channel in args for _arrives, args in self._held)

    def carry(self, arrives: Callable[..., object], *args: Any) -> None:
        """Carry a message to the other end, unless a fault prevents it."""
        world = self._world
        if self.cut:
            if self.keeps:
                self._held.append((arrives, args))
        elif not (self.loses or self.doubles or self.slow_seconds):
            # This is the common case, and the hottest path.
            arrival = world.now + MIN_SECONDS + SPREAD_SECONDS * self._random.random()
            world.at(arrival, arrives, args)
        elif self._random.random() >= self.loses:
            world.at(world.now + self._seconds(), arrives, args)
            if self._random.random() < self.doubles:
                world.at(world.now + self._seconds() + 0.01, arrives, args)

    def mend(self) -> None:
        """End all faults; what was held back is sent on."""
        self.loses = self.doubles = self.slow_seconds = 0.0
        self.cut = self.keeps = False
        held, self._held = self._held, []
        for arrives, args in held:
            self.carry(arrives, *args)

    def forget(self) -> None:
        """Drop what was held back: the connection is closed."""
        self._held.clear()

    def _seconds(self) -> float:
        slow = self._random.uniform(0, self.slow_seconds)
        self._world.slow_until = max(self._world.slow_until, self._world.now + slow)
        return MIN_SECONDS + SPREAD_SECONDS * self._random.random() + slow


class Line:
    """One connection of a process to a Redis server."""

    def __init__(self, world: World, name: str, server: Server) -> None:
        self.name = name
        self.server = server
        self.up = Way(world)
        self.down = Way(world)

    def mend(self) -> None:
        """End all faults."""
        self.up.mend()
        self.down.mend()
