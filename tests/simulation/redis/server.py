"""A Redis server: its data, its write log, and its subscribers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from tests.simulation.redis.database import Database

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.simulation.engine.world import World
    from tests.simulation.redis.database import Word
    from tests.simulation.redis.scripts import Scripts

    Write = Callable[[Database, int], Any]
    Deliver = Callable[[str, bytes], None]


_OF_R11 = {b"seen": "R11 once", b"late": "R11 late"}


class Server:
    """One server; `name` distinguishes it from its predecessor.

    `journal` has every write with its time, so that a promoted replica can replay a part of them.
    """

    def __init__(self, world: World, name: str, scripts: Scripts) -> None:
        self.name = name
        self.data = Database()
        self.journal: list[tuple[int, float, Write]] = []
        self.up = True
        self.before_commit: Callable[[Server, Sequence[str]], None] = _nobody
        self.on_commit: Callable[[Server, list[Any]], None] = _nobody
        self._world = world
        self._scripts = scripts
        self._subscribed: dict[str, dict[object, Deliver]] = {}

    def now_ms(self) -> int:
        """Return this server's time."""
        return self._world.wall_ms()

    def read(self, look: Callable[[Database], Any]) -> Any:
        """Run a read."""
        self.data.forget_expired(self._world.wall_ms())
        return look(self.data)

    def write(self, change: Write) -> Any:
        """Run a write; raises ResponseError on a demoted master."""
        now_ms = self._world.wall_ms()
        self.data.forget_expired(now_ms)
        result = change(self.data, now_ms)
        if self.data.writable:
            self.journal.append((now_ms, self._world.now, change))
        return result

    def script(self, name: str, keys: Sequence[str], args: Sequence[Word]) -> Any:
        """Run a script; raises ResponseError at its first write on a demoted master."""
        run = getattr(self._scripts, name)
        if name == "commit":
            self.before_commit(self, keys)
        try:
            result = self.write(lambda data, now_ms: run(data, keys, args, now_ms))
        except ResponseError:
            if name == "heartbeat":
                self._world.mattered["R2"] += 1
            raise
        if name == "commit" and result[0] in _OF_R11:
            self._world.mattered[_OF_R11[result[0]]] += 1
        if name == "heartbeat" and len(result) > 2 and result[2] != int(args[1]):
            self._world.mattered["R13"] += 1
        if name == "commit" and result[0] == b"done" and self.data.writable:
            self.on_commit(self, [*keys, result])
        return result

    def promoted(self, name: str, expected: int) -> Server:
        """Return a replica of this server with the first this many of its writes."""
        server = Server(self._world, name, self._scripts)
        server.journal = self.journal[:expected]
        for now_ms, _when, change in server.journal:
            server.data.forget_expired(now_ms)
            change(server.data, now_ms)
        server.before_commit, server.on_commit = self.before_commit, self.on_commit
        return server

    def publish(self, channel: str, data: bytes) -> int:
        """Deliver a message to all subscribers; returns how many."""
        subscribed = self._subscribed.get(channel)
        if not subscribed:
            return 0
        for deliver in list(subscribed.values()):
            deliver(channel, data)
        return len(subscribed)

    def subscribe(self, who: object, channels: Sequence[str], deliver: Deliver) -> None:
        """Subscribe a connection."""
        for channel in channels:
            self._subscribed.setdefault(channel, {})[who] = deliver

    def unsubscribe(self, who: object) -> None:
        """Unsubscribe a connection."""
        for subscribed in self._subscribed.values():
            subscribed.pop(who, None)


def _nobody(_server: Server, _what: Sequence[Any]) -> None:
    """Do nothing."""
