"""One run: a seed in; what happened, or the violation, out."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tests.simulation.cluster import Cluster
from tests.simulation.faults import Faults
from tests.simulation.logs import listening
from tests.simulation.rules import SOUND
from tests.simulation.settled import check_progress, check_views
from tests.simulation.story import Violation
from tests.simulation.work import Work
from tests.simulation.world import World

if TYPE_CHECKING:
    from tests.simulation.rules import Variant

QUIET_SECONDS: Final = 7.0
"""A silent subscription is given up after 3 s; connecting, an announcement, three beats."""
CONNECT_SECONDS: Final = 2.5
BEGIN_SECONDS: Final = 2.0


@dataclass(slots=True)
class Outcome:
    """How a run went. `violation` is None if all was well; `story` is empty unless wanted."""

    seed: int
    seconds: float
    violation: Violation | None = None
    story: str = ""
    faults: Counter[str] = field(default_factory=Counter)
    checked: Counter[str] = field(default_factory=Counter)
    mattered: Counter[str] = field(default_factory=Counter)


def simulate(seed: int, variant: Variant = SOUND, *, told: bool = False) -> Outcome:
    """Run one seed."""
    world = World(seed, told=told)
    draw = world.random
    until = draw.uniform(6.0, 17.0)
    before = random.getstate()
    random.seed(seed)  # the services spread their pauses by it
    outcome = Outcome(seed, 0.0)
    try:
        with listening(world):
            cluster = Cluster(world, variant, changes_limit=draw.choice((256, 256, 2)))
            faults = Faults(cluster, until)
            for _ in range(draw.choice((0, 1, 2, 3, 4, 6, 8))):
                world.after(draw.uniform(BEGIN_SECONDS, until), faults.draw)
            world.after(BEGIN_SECONDS, Work(cluster, until).start)
            outcome.faults, outcome.checked = faults.drawn, cluster.oracle.checked
            outcome.mattered = world.mattered
            world.run(until)
            world.story.tell("", "all faults are over, and nobody does anything more")
            world.run(until + QUIET_SECONDS)
            check_views(cluster)
            _connect_all(cluster)
            world.run(world.now + CONNECT_SECONDS)
            check_progress(cluster)
            world.run(world.now)
    except Violation as violation:
        outcome.violation = violation
    finally:
        random.setstate(before)
    outcome.seconds = world.now
    outcome.story = str(world.story)
    return outcome


def _connect_all(cluster: Cluster) -> None:
    for number, device in enumerate(cluster.devices):
        if device.idle:
            gateway = cluster.gateways[number % len(cluster.gateways)]
            device.connect(gateway, with_token=False)
        else:
            device.call()
