"""Faults: each begins at some moment, lasts a while, and ends in good time."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from tests.simulation.outages import Outages
from tests.simulation.services.gateway import GatewayProcess

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.simulation.cluster import Cluster, Member
    from tests.simulation.engine.network import Way

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
"""Every kind of fault with its relative frequency."""

LONG_SHARE: Final = 0.4
"""The share of lasting faults that outlast the lease."""


class Faults:
    """Draws faults; all end before `until`, in the world's time."""

    def __init__(self, cluster: Cluster, until: float) -> None:
        self._cluster = cluster
        self._world = cluster.world
        self._random: Random = cluster.world.random
        self._until = until
        self._outages = Outages(cluster, self._seconds)
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
            "failover": self._outages.failover,
            "crash of Redis": lambda: self._outages.failover(crash=True),
            "FLUSHALL": self._outages.flush,
            "trimmed log": self._outages.trim,
            "clock step": self._step_clock,
        }

    def draw(self) -> None:
        """Start one fault now, unless every process is currently dead."""
        if not self._cluster.members:
            return
        kind = self._random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        self.drawn[kind] += 1
        self._kinds[kind]()

    # ------------------------------------------------------------------------------ connections

    def _loss(self) -> None:
        share = self._random.choice((0.1, 0.3, 0.7))
        self._spoil(f"loses {share:.0%}", lambda way: setattr(way, "loses", share))

    def _doubling(self) -> None:
        share = self._random.choice((0.2, 0.6))
        self._spoil(f"doubles {share:.0%}", lambda way: setattr(way, "doubles", share), but="store")

    def _delay(self) -> None:
        maximum = self._random.choice((0.05, 0.4, 1.5, 6.0))
        self._spoil(
            f"delays by up to {maximum:g} s", lambda way: setattr(way, "slow_seconds", maximum)
        )

    def _slow_store(self) -> None:
        """Delay commits until their callers have given up (R11)."""
        approvals = [approval for approval in self._cluster.approvals if not approval.process.gone]
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

    def _spoil(self, description: str, spoil: Callable[[Way], None], but: str = "") -> None:
        """Disturb some connections of a process, in one direction or both, for a while."""
        member = self._random.choice(self._cluster.members)
        lines = [line for line in member.lines if line.name != but]
        if self._random.random() < 0.6:
            lines = [self._random.choice(lines)]
        direction = self._random.choice(("both ways", "outward", "inward"))
        seconds = self._a_while(0.5)
        names = " and ".join(line.name for line in lines)
        self._tell(member, f"{names} {description}, {direction}, for {seconds:.1f} s")
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

    def _a_while(self, minimum: float) -> float:
        """Draw how long something lasts: often short, often longer than the lease."""
        lease = self._cluster.oracle.lease_seconds
        if self._random.random() < LONG_SHARE:
            return self._seconds(lease, 1.6 * lease)
        return self._seconds(minimum, lease)

    def _seconds(self, minimum: float, maximum: float) -> float:
        """Draw how long something lasts: often short, and over before the end of all faults."""
        seconds = minimum + (maximum - minimum) * self._random.random() ** 2
        return min(seconds, max(0.0, self._until - self._world.now))

    def _tell(self, member: Member, description: str) -> None:
        kind = "gateway" if isinstance(member, GatewayProcess) else "approval"
        assert member.name.startswith(kind)
        self._world.story.tell("FAULT", f"{member.name} {description}")
