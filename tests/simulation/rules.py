"""The rules of the beat by number, and the services without one of them (tests only).

`WITHOUT` names, for each part of a rule, the services without it. `test_rules.py` has a scenario for
each in which an invariant breaks. R12 is not among them: no call that changes something comes from
a socket yet, so there is nothing to simulate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from services.approval.announcer import Announcer
from services.gateway.beat import Effect, Standing
from services.gateway.beater import Beater
from services.gateway.presence import Presence
from shared.messages import EVERY_ROLE, Alive
from tests.simulation.bus import SimulatedBus
from tests.simulation.scripts import Scripts
from tests.simulation.watched import WatchedApprovals, WatchedBeat

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.messages import Answer, BeatAnswer, Change, Changed
    from tests.simulation.database import Database, Word


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


SOUND: Final = Variant()


class CreditsTheNewest(WatchedBeat):
    """R1: the lease runs from the newest beat, whichever was answered."""

    def on_answer(self, answer: BeatAnswer) -> list[Effect]:
        if answer.beat_id not in self._sent:
            return []
        self._sent[answer.beat_id] = self._sent[self._last_id]
        return super().on_answer(answer)


class TakesOldAnswers(WatchedBeat):
    """R1: an answer to a beat older than the newest answered one is taken as well."""

    def on_answer(self, answer: BeatAnswer) -> list[Effect]:
        sent = dict(self._sent)
        self._newest_answered = 0
        effects = super().on_answer(answer)
        for beat_id, one in sent.items():
            if beat_id != answer.beat_id:
                self._sent[beat_id] = one
        return effects


class AnswersWithoutWriting(Scripts):
    """R2: a beat is answered though nothing may be written any more."""

    def beat(
        self, data: Database, keys: Sequence[str], args: Sequence[Word], now_ms: int
    ) -> list[Any]:
        if data.writable:
            return super().beat(data, keys, args, now_ms)
        at = int(data.hashes.get(keys[0], {}).get("at", b"0"))
        return [*self.history(data, keys, args, at, now_ms), 0]


class AlwaysFresh(Announcer):
    """R3: answers and announces whether or not its own writes and news come through."""

    @property
    def fresh(self) -> bool:
        return True

    def _failed(self, why: str) -> None:
        super()._failed(why)
        self._tell(Alive(self._boot_id, ready=True))


class RenewsAnyway(WatchedBeat):
    """R4: an answer renews the lease though not all of it was applied."""

    def on_answer(self, answer: BeatAnswer) -> list[Effect]:
        sent = self._sent.get(answer.beat_id)
        effects = super().on_answer(answer)
        if sent is not None:
            self._leased_from = max(self._leased_from, sent.at)
        return effects


class CountsOnly(WatchedBeat):
    """R5: a change is applied by its number, whatever came before it."""

    def _follows(self, change: Changed) -> bool:
        return change.change.number == self.applied.number + 1


class ForgetsWhatTouched(WatchedBeat):
    """R6: an answer counts though a later change of the device is known."""

    def standing(self, decided_at: Change, device_id: str) -> Standing:
        self._touched.clear()
        return super().standing(decided_at, device_id)


class NeverWaits(WatchedBeat):
    """R6: an answer counts though it is not in the gateway's own history."""

    def standing(self, decided_at: Change, device_id: str) -> Standing:
        found = super().standing(decided_at, device_id)
        touched = self._touched.get(device_id, 0) > decided_at.number
        return Standing.COUNTS if self.leased and not touched else found


class ChecksBeforehand(WatchedApprovals):
    """R6: nothing is looked at again in the turn that registers."""

    def require_current(self, answer: Answer | None, device_id: str) -> None:
        self.note(answer)


class TrustsTheSweep(WatchedBeat):
    """R7: whether there is a lease is what the last answer or sweep found."""

    _flag = False

    @property
    def leased(self) -> bool:
        return self._flag

    @property
    def lease_left(self) -> float:
        left = super().lease_left
        self._flag = left > 0
        return left

    def on_answer(self, answer: BeatAnswer) -> list[Effect]:
        effects = super().on_answer(answer)
        self._flag = self._flag or self._leased_from + 10 > self._clock.monotonic()
        return effects


class KeepsEverybody(WatchedBeat):
    """R8: after a lost history, whoever is in stays in."""

    def _resync(self, *given: Any) -> list[Effect]:
        super()._resync(*given)
        return []


class KeepsItsMemory(WatchedBeat):
    """R8: after a lost history, an answer from before it may still count."""

    def _resync(self, *given: Any) -> list[Effect]:
        floor = self._floor if self.booted else None
        effects = super()._resync(*given)
        self._floor = floor or self._floor
        return effects


class ClosesForAnything(WatchedBeat):
    """R9: whatever changes of a device, its connections are closed."""

    def on_news(self, news: Changed) -> list[Effect]:
        return super().on_news(msgspec.structs.replace(news, closes=[EVERY_ROLE]))


class ClosesTheRemovedOnly(WatchedBeat):
    """R9: a rotated or revoked device's connections stay."""

    def on_news(self, news: Changed) -> list[Effect]:
        return super().on_news(self._milder(news))

    def on_answer(self, answer: BeatAnswer) -> list[Effect]:
        changes = [self._milder(change) for change in answer.changes]
        return super().on_answer(msgspec.structs.replace(answer, changes=changes))

    def _milder(self, change: Changed) -> Changed:
        return msgspec.structs.replace(
            change, closes=change.closes if change.kind == "removed" else []
        )


class NeverForgets(WatchedBeat):
    """R10: news of a forgotten history is kept for ever."""

    def _forget(self, *given: Any) -> None:
        """Keep it."""


class LooksNothingUp(Scripts):
    """R11: a call that was carried out is carried out again."""

    def _seen(self, data: Database, keys: Sequence[str], plan: dict[str, Any]) -> list[Any] | None:
        return None


class NeverLate(Scripts):
    """R11: a call is carried out however late it comes."""

    def is_late(self, not_after_ms: int, now_ms: int) -> bool:
        return False


class BuildsOnAnything(Scripts):
    """R13: a presence delta is applied on whatever is there."""

    def builds_on(self, beat: int, base: int, at: int) -> bool:
        return beat > at


class HearsNoSilence(SimulatedBus):
    """R14: a subscription is kept however long it is silent."""

    silence_seconds = 1e6


WITHOUT: Final = {
    "R1 echo": Variant(beat=CreditsTheNewest),
    "R1 order": Variant(beat=TakesOldAnswers),
    "R2": Variant(scripts=AnswersWithoutWriting),
    "R3": Variant(announcer=AlwaysFresh),
    "R4": Variant(beat=RenewsAnyway),
    "R5": Variant(beat=CountsOnly),
    "R6 memory": Variant(beat=ForgetsWhatTouched),
    "R6 history": Variant(beat=NeverWaits),
    "R6 turn": Variant(approvals=ChecksBeforehand),
    "R7": Variant(beat=TrustsTheSweep),
    "R8": Variant(beat=KeepsEverybody),
    "R8 floor": Variant(beat=KeepsItsMemory),
    "R9 no wider": Variant(beat=ClosesForAnything),
    "R9 closes": Variant(beat=ClosesTheRemovedOnly),
    "R10": Variant(beat=NeverForgets),
    "R11 once": Variant(scripts=LooksNothingUp),
    "R11 in time": Variant(scripts=NeverLate),
    "R13": Variant(scripts=BuildsOnAnything),
    "R14": Variant(bus=HearsNoSilence),
}
"""The services without a rule, or a part of it."""
