"""The replication rules by number, and the services with one of them removed (tests only).

For each part of a rule, `WITHOUT` has the services without it. `test_rules.py` has a scenario for
each in which an invariant breaks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from services.approval.requests.liveness import LivenessPublisher
from services.gateway.approval.heartbeat import Heartbeat
from services.gateway.replication.presence import Presence
from tests.simulation.checks.watched import WatchedApprovals, WatchedRegistry, WatchedReplica
from tests.simulation.mutants import lax_approval, lax_gateway
from tests.simulation.redis.scripts import Scripts
from tests.simulation.services.bus import SimulatedBus


@dataclass(frozen=True, slots=True)
class Variant:
    """The classes that simulated processes consist of; the defaults are the real ones."""

    beat: type[WatchedReplica] = WatchedReplica
    beater: type[Heartbeat] = Heartbeat
    presence: type[Presence] = Presence
    approvals: type[WatchedApprovals] = WatchedApprovals
    announcer: type[LivenessPublisher] = LivenessPublisher
    registry: type[WatchedRegistry] = WatchedRegistry
    bus: type[SimulatedBus] = SimulatedBus
    scripts: type[Scripts] = Scripts


SOUND: Final = Variant()

WITHOUT: Final = {
    "R1 echo": Variant(beat=lax_gateway.CreditsTheNewest),
    "R1 order": Variant(beat=lax_gateway.TakesOldAnswers),
    "R2": Variant(
        scripts=lax_approval.AnswersWithoutWriting, announcer=lax_approval.OutlivesRefusals
    ),
    "R3": Variant(announcer=lax_approval.AlwaysFresh),
    "R4": Variant(beat=lax_gateway.RenewsAnyway),
    "R5": Variant(beat=lax_gateway.CountsOnly),
    "R5 calls": Variant(beat=lax_gateway.CountsOnlyForCalls),
    "R6 memory": Variant(beat=lax_gateway.ForgetsWhatTouched),
    "R6 history": Variant(beat=lax_gateway.NeverWaits),
    "R7": Variant(beat=lax_gateway.TrustsTheSweep),
    "R8": Variant(beat=lax_gateway.KeepsEverybody),
    "R8 floor": Variant(beat=lax_gateway.KeepsItsMemory),
    "R9 no wider": Variant(beat=lax_gateway.ClosesForAnything),
    "R9 closes": Variant(beat=lax_gateway.ClosesTheRemovedOnly),
    "R10": Variant(beat=lax_gateway.NeverForgets),
    "R11 once": Variant(scripts=lax_approval.LooksNothingUp),
    "R11 in time": Variant(scripts=lax_approval.NeverLate),
    "R12": Variant(registry=lax_approval.TrustsTheGateway),
    "R12 version": Variant(registry=lax_approval.ReadsTheCallerOnly),
    "R13": Variant(scripts=lax_approval.BuildsOnAnything),
    "R14": Variant(bus=lax_approval.HearsNoSilence),
}
"""The services without a rule, or a part of it.

That nothing comes between R6's check and the registration has no variant: they are one call.
"""
