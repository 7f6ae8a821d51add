"""What can go wrong: each fault begins at some moment, lasts a while, and is over in good time."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from services.approval.store import CHANGES
from tests.simulation.gateway import GatewayProcess

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.simulation.cluster import Cluster, Member
    from tests.simulation.database import Database
    from tests.simulation.network import Line, Way
    from tests.simulation.server import Server

WEIGHTS: Final = {
    "loss": 3,
    "doubling": 2,
    "delay": 3,
    "slow store": 2,
    "partition": 4,
    "lost subscription": 3,
    "stop": 4,
    "kill": 2,
    "failover": 3,
    "crash of Redis": 1,
    "FLUSHALL": 1,
    "trimmed log": 1,
    "clock step": 1,
}
"""Every kind of fault, and how often it is drawn beside the others."""

LONG_SHARE: Final = 0.4
"""How many of the faults that last are meant to outlast the lease."""


class Faults:
    """Draws faults; `until` is when all of them are over, in the world's time."""

    def __init__(self, cluster: Cluster, until: float) -> None:
        self._cluster = cluster
        self._world = cluster.world
        self._random: Random = cluster.world.random
        self._until = until
        self._replacing = False
        self.drawn: Counter[str] = Counter()
        self._kinds: dict[str, Callable[[], None]] = {
            "loss": self._loss,
            "doubling": self._doubling,
            "delay": self._delay,
            "slow store": self._slow_store,
            "partition": self._partition,
            "lost subscription": self._lost_subscription,
            "stop": self._stop,
            "kill": self._kill,
            "failover": self.failover,
            "crash of Redis": lambda: self.failover(crash=True),
            "FLUSHALL": self.flush,
            "trimmed log": self.trim,
            "clock step": self._step_clock,
        }

    def draw(self) -> None:
        """Let one fault begin now."""
        kind = self._random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        self.drawn[kind] += 1
        self._kinds[kind]()

    # ------------------------------------------------------------------------------------ lines

    def _loss(self) -> None:
        share = self._random.choice((0.1, 0.3, 0.7))
        self._spoil(f"loses {share:.0%}", lambda way: setattr(way, "loses", share))

    def _doubling(self) -> None:
        share = self._random.choice((0.2, 0.6))
        self._spoil(f"doubles {share:.0%}", lambda way: setattr(way, "doubles", share), but="store")

    def _delay(self) -> None:
        most = self._random.choice((0.05, 0.4, 1.5, 6.0))
        self._spoil(f"delays by up to {most:g} s", lambda way: setattr(way, "slow_seconds", most))

    def _slow_store(self) -> None:
        """Have commits come in when their askers have long given up (R11)."""
        approvals = [one for one in self._cluster.approvals if not one.process.gone]
        if approvals:
            member, seconds = self._random.choice(approvals), self._a_while(0.5)
            self._tell(member, f"reaches its store up to 6 s late, for {seconds:.1f} s")
            member.lines[2].up.slow_seconds = 6.0
            self._world.after(seconds, member.lines[2].mend)

    def _partition(self) -> None:
        keeps = self._random.random() < 0.5

        def cut(way: Way) -> None:
            way.cut, way.keeps = True, keeps

        self._spoil("is cut" + (", and keeps what is sent" if keeps else ""), cut)

    def _spoil(self, what: str, spoil: Callable[[Way], None], but: str = "") -> None:
        """Do something to some lines of a member, in one direction or both, for a while."""
        member = self._random.choice(self._cluster.members)
        lines = [line for line in member.lines if line.name != but]
        if self._random.random() < 0.6:
            lines = [self._random.choice(lines)]
        direction = self._random.choice(("both ways", "outward", "inward"))
        seconds = self._a_while(0.5)
        names = " and ".join(line.name for line in lines)
        self._tell(member, f"{names} {what}, {direction}, for {seconds:.1f} s")
        for line in lines:
            if direction != "inward":
                spoil(line.up)
            if direction != "outward":
                spoil(line.down)
            self._world.after(seconds, line.mend)

    def _lost_subscription(self) -> None:
        member = self._random.choice(self._cluster.members)
        silently = self._random.random() < 0.6
        self._tell(member, f"loses its subscription{' silently' if silently else ''}")
        member.bus.lose(silently=silently)

    # -------------------------------------------------------------------------------- processes

    def _stop(self) -> None:
        member = self._random.choice(self._cluster.members)
        if member.process.stopped:
            return
        seconds = self._a_while(0.3)
        suspended = self._random.random() < 0.3
        self._tell(member, f"is stopped for {seconds:.1f} s{' (suspended)' if suspended else ''}")
        self.stop(member, seconds, suspended=suspended)

    def stop(self, member: Member, seconds: float, *, suspended: bool = False) -> None:
        """Halt a process for a while."""
        member.process.stop()

        def wake() -> None:
            if not member.process.gone:
                self._tell(member, "wakes")
                member.process.wake(seconds, suspended=suspended)

        self._world.after(seconds, wake)

    def _kill(self) -> None:
        member = self._random.choice(self._cluster.members)
        self._cluster.kill(member)
        self._world.after(self._seconds(0.1, 4.0), self._cluster.restart, member)

    def _step_clock(self) -> None:
        member = self._random.choice(self._cluster.members)
        by_ms = self._random.choice((-600_000, -5_000, 5_000, 600_000))
        self._tell(member, f"has its wall clock set by {by_ms / 1000:+g} s")
        member.process.clock.skew_ms += by_ms

    # ------------------------------------------------------------------------------------ Redis

    def failover(self, *, crash: bool = False, lose_seconds: float | None = None) -> None:
        """Replace the master by a replica that lacks the newest writes, or by itself restarted.

        The old one takes no writes from now on but answers for a while, unless it crashed.
        """
        if self._replacing:
            return
        self._replacing = True
        old, now = self._cluster.server, self._world.now
        lose = lose_seconds
        if lose is None:
            lose = self._random.choice((0.0, 0.0, 0.3, 2.0, 5.0))
        kept = sum(1 for _at, when, _write in old.journal if when <= now - lose)
        old.data.writable = False
        word = "crashes" if crash else "is cut off from its replicas: it takes no writes"
        self._world.story.tell(f"redis {old.name}", word)
        if crash:
            self._down(old)
        wait = self._seconds(0.1, 3.0)
        self._world.after(wait, self._promote, old, kept)

    def _promote(self, old: Server, kept: int) -> None:
        cluster, oracle = self._cluster, self._cluster.oracle
        name = chr(ord(old.name) + 1)
        new = old.promoted(name, kept)
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
        """Lose everything that Redis keeps."""
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

    def _a_while(self, least: float) -> float:
        """Draw how long something lasts: often short, often longer than the lease."""
        lease = self._cluster.oracle.lease_seconds
        if self._random.random() < LONG_SHARE:
            return self._seconds(lease, 1.6 * lease)
        return self._seconds(least, lease)

    def _seconds(self, least: float, most: float) -> float:
        """Draw how long something lasts: often short, and over before the end of all faults."""
        seconds = least + (most - least) * self._random.random() ** 2
        return min(seconds, max(0.0, self._until - self._world.now))

    def _tell(self, member: Member, what: str) -> None:
        kind = "gateway" if isinstance(member, GatewayProcess) else "approval"
        assert member.name.startswith(kind)
        self._world.story.tell("FAULT", f"{member.name} {what}")
