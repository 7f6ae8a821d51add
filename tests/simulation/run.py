"""One run: takes a seed; returns what happened, or the violation."""

from __future__ import annotations

import gc
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from services.approval.storage.keys import HEAD
from tests.simulation.checks.settled import (
    check_progress,
    check_views,
    disagreements,
    everybody_is_in,
)
from tests.simulation.cluster import Cluster
from tests.simulation.engine.logs import listening
from tests.simulation.engine.story import Violation
from tests.simulation.engine.world import World
from tests.simulation.faults import Faults
from tests.simulation.mutants.rules import SOUND
from tests.simulation.redis.presence_script import head_of
from tests.simulation.work import Work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tests.simulation.mutants.rules import Variant

QUIET_SECONDS: Final = 7.0
"""Covers dropping a silent subscription (3 s), connecting, an announcement, three heartbeats."""
AGREED_SECONDS: Final = 2.0
"""Agreement that lasts for two heartbeats is taken as permanent."""
CONNECT_SECONDS: Final = 2.5
BEGIN_SECONDS: Final = 0.5
LOOK_SECONDS: Final = 0.5
"""The interval of checks whether a run may continue."""
LEASES_SECONDS: Final = (4.0, 4.0, 4.0, 4.0, 4.0, 10.0)
GATEWAYS: Final = (2, 2, 3)
TURNS_SECONDS: Final = (0.000_02, 0.000_02, 0.000_02, 0.004)
"""The last value models a busy machine: much happens between two turns of a loop."""


RUNS_A_CLEARING: Final = 10


@dataclass(slots=True)
class Outcome:
    """The result of a run. `violation` is None on success; `story` is empty unless wanted."""

    seed: int
    seconds: float
    violation: Violation | None = None
    story: str = ""
    faults: Counter[str] = field(default_factory=Counter)
    checked: Counter[str] = field(default_factory=Counter)
    mattered: Counter[str] = field(default_factory=Counter)


def simulate_all(seeds: Iterable[int], variant: Variant = SOUND) -> Iterator[Outcome]:
    """Run seeds one after another, collecting garbage only occasionally."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        for number, seed in enumerate(seeds, 1):
            yield simulate(seed, variant)
            if number % RUNS_A_CLEARING == 0:
                gc.collect()
    finally:
        gc.enable()
        gc.unfreeze()


def simulate(seed: int, variant: Variant = SOUND, *, with_story: bool = False) -> Outcome:
    """Run one seed."""
    world = World(seed, with_story=with_story)
    draw = world.random
    lease_seconds = draw.choice(LEASES_SECONDS)
    until = draw.uniform(2.0, 2.0 + 1.8 * lease_seconds)
    world.turn_seconds = draw.choice(TURNS_SECONDS)
    before = random.getstate()
    random.seed(seed)  # the services jitter their delays with it
    outcome = Outcome(seed, 0.0)
    try:
        with listening(world):
            cluster = Cluster(
                world,
                variant,
                gateways=draw.choice(GATEWAYS),
                changes_limit=draw.choice((256, 256, 2)),
                lease_seconds=lease_seconds,
            )
            faults = Faults(cluster, until)
            for _ in range(draw.choice((0, 1, 2, 3, 4, 6, 8))):
                world.after(BEGIN_SECONDS + (until - BEGIN_SECONDS) * draw.random(), faults.draw)
            world.after(BEGIN_SECONDS, Work(cluster, until).start)
            outcome.faults, outcome.checked = faults.drawn, cluster.oracle.checked
            outcome.mattered = world.mattered
            world.run(until)
            world.run(world.slow_until)
            world.story.tell("", "all faults are over, and nobody does anything more")
            _settle(cluster)
            check_views(cluster)
            _connect_all(cluster)
            _wait(world, lambda: everybody_is_in(cluster), CONNECT_SECONDS)
            check_progress(cluster)
            world.run(world.now)
    except Violation as violation:
        outcome.violation = violation
    finally:
        world.end()
        random.setstate(before)
    outcome.seconds = world.now
    outcome.story = str(world.story)
    return outcome


def _settle(cluster: Cluster) -> None:
    """Wait until all agree, within QUIET_SECONDS of the last change: requests still expire."""
    world = cluster.world
    agreed_at = changed_at = world.now
    head = head_of(cluster.server.data, HEAD)

    def agreed() -> bool:
        nonlocal agreed_at, changed_at, head
        newest = head_of(cluster.server.data, HEAD)
        if newest != head:
            head, changed_at = newest, world.now
        connected = all(member.bus.is_at(cluster.server) for member in cluster.members)
        if not connected or next(disagreements(cluster), None) is not None:
            agreed_at = world.now
        return world.now >= agreed_at + AGREED_SECONDS

    while not agreed() and world.now < changed_at + QUIET_SECONDS:
        world.run(world.now + LOOK_SECONDS)


def _wait(world: World, holds: Callable[[], bool], seconds: float) -> None:
    """Advance time until a condition holds or this many seconds have passed."""
    end = world.now + seconds
    while not holds() and world.now < end:
        world.run(min(world.now + LOOK_SECONDS, end))


def _connect_all(cluster: Cluster) -> None:
    for number, device in enumerate(cluster.devices):
        if device.idle:
            gateway = cluster.gateways[number % len(cluster.gateways)]
            device.connect(gateway, with_token=False)
        else:
            device.call()
