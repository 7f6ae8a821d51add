"""Faults of Redis: another server takes its place, or it loses its data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.approval.storage.keys import CHANGES

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.simulation.cluster import Cluster, Member
    from tests.simulation.engine.network import Line
    from tests.simulation.redis.database import Database
    from tests.simulation.redis.server import Server


class Outages:
    """Causes outages; `seconds` draws a duration between two limits."""

    def __init__(self, cluster: Cluster, seconds: Callable[[float, float], float]) -> None:
        self._cluster = cluster
        self._world = cluster.world
        self._random: Random = cluster.world.random
        self._seconds = seconds
        self._replacing = False

    def failover(self, *, crash: bool = False) -> None:
        """Replace the master by a replica that lacks the newest writes, or by itself restarted.

        The old master accepts no writes any more but answers for a while, unless it crashed.
        """
        if self._replacing:
            return
        self._replacing = True
        old, now = self._cluster.server, self._world.now
        lose = self._random.choice((0.0, 0.0, 0.3, 2.0, 5.0))
        stored = sum(1 for _at, when, _write in old.journal if when <= now - lose)
        old.data.writable = False
        word = "crashes" if crash else "is cut off from its replicas: it takes no writes"
        self._world.story.tell(f"redis {old.name}", word)
        if crash:
            self._down(old)
        wait = self._seconds(0.1, 3.0)
        self._world.after(wait, self._promote, old, stored)

    def _promote(self, old: Server, expected: int) -> None:
        cluster, oracle = self._cluster, self._cluster.oracle
        name = chr(ord(old.name) + 1)
        new = old.promoted(name, expected)
        forgotten = oracle.histories.inherit(old, new)
        if forgotten:
            oracle.lose_history()
        cluster.server = new
        oracle.replaced(new)
        self._world.story.tell(f"redis {name}", f"is the master; it forgot {forgotten} changes")
        for member in cluster.members:
            for line in member.lines:
                late = self._seconds(0.0, 5.0) if old.up else self._seconds(0.0, 0.3)
                self._world.after(late, self._lead, member, line, new)
        self._world.after(self._seconds(0.0, 6.0), self._down, old)
        self._replacing = False

    def _lead(self, member: Member, line: Line, server: Server) -> None:
        if line.server.name < server.name:
            line.server = server
            if line.name == "subscription":
                member.bus.lose(silently=False)

    def _down(self, server: Server) -> None:
        server.up = False
        for member in self._cluster.members:
            if member.lines[1].server is server:
                member.bus.lose(silently=False)

    def flush(self) -> None:
        """Delete everything in Redis."""
        server = self._cluster.server
        if not server.data.writable:
            return
        self._world.story.tell(f"redis {server.name}", "FLUSHALL: everything is lost")
        server.write(lambda data, _now_ms: data.clear())
        self._cluster.oracle.lose_history()
        self._cluster.oracle.histories.forget(server)
        self._cluster.oracle.replaced(server)

    def trim(self) -> None:
        """Keep only the newest entry of the change log."""
        server = self._cluster.server
        if not server.data.writable:
            return

        def keep_one(data: Database, _now_ms: int) -> None:
            del data.streams.get(CHANGES, [])[:-1]

        server.write(keep_one)
        self._cluster.oracle.lose_history()
        self._world.story.tell(f"redis {server.name}", "the change log is trimmed to one entry")
