"""The rules of the beat by number, and the services without one of them (tests only)."""

from __future__ import annotations

from dataclasses import dataclass

from services.approval.announcer import Announcer
from services.gateway.beater import Beater
from services.gateway.presence import Presence
from tests.simulation.bus import SimulatedBus
from tests.simulation.scripts import Scripts
from tests.simulation.watched import WatchedApprovals, WatchedBeat


@dataclass(frozen=True, slots=True)
class Variant:
    """What the simulated processes are made of; the defaults are the real parts."""

    beat: type[WatchedBeat] = WatchedBeat
    beater: type[Beater] = Beater
    presence: type[Presence] = Presence
    approvals: type[WatchedApprovals] = WatchedApprovals
    announcer: type[Announcer] = Announcer
    bus: type[SimulatedBus] = SimulatedBus
    scripts: type[Scripts] = Scripts


SOUND = Variant()
