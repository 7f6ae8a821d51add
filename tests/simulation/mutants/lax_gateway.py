"""Parts of a gateway with a rule, or part of one, removed (tests only)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from services.gateway.replication.replica import Effect, Freshness
from shared.rpc.messages import EVERY_ROLE
from tests.simulation.checks.watched import WatchedReplica

if TYPE_CHECKING:
    from shared.rpc.messages import Changed, HeartbeatAnswer, Position


class CreditsTheNewest(WatchedReplica):
    """R1: the lease runs from the newest heartbeat, whichever was answered."""

    def on_answer(self, answer: HeartbeatAnswer) -> list[Effect]:
        if answer.heartbeat_id not in self._sent:
            return []
        self._sent[answer.heartbeat_id] = self._sent[self._last_id]
        return super().on_answer(answer)


class TakesOldAnswers(WatchedReplica):
    """R1: an answer to a heartbeat older than the newest answered one is accepted."""

    def on_answer(self, answer: HeartbeatAnswer) -> list[Effect]:
        sent = dict(self._sent)
        self._newest_answered = 0
        effects = super().on_answer(answer)
        for heartbeat_id, item in sent.items():
            if heartbeat_id != answer.heartbeat_id:
                self._sent[heartbeat_id] = item
        return effects


class RenewsAnyway(WatchedReplica):
    """R4: an answer renews the lease although not all of it was applied."""

    def on_answer(self, answer: HeartbeatAnswer) -> list[Effect]:
        sent = self._sent.get(answer.heartbeat_id)
        effects = super().on_answer(answer)
        if sent is not None:
            self._leased_from = max(self._leased_from, sent.at)
        return effects


class CountsOnly(WatchedReplica):
    """R5: a change is applied by its number, whatever came before it."""

    def _follows(self, change: Changed) -> bool:
        return change.change.number == self.applied.number + 1


class CountsOnlyForCalls(WatchedReplica):
    """R5: a call's change counts as applied by its number, whatever its history."""

    def has_applied(self, change: Position) -> bool:
        return change.number <= self.applied.number


class ForgetsWhatTouched(WatchedReplica):
    """R6: an answer counts although a later change of the device is known."""

    def freshness(self, decided_at: Position, device_id: str) -> Freshness:
        self._touched.clear()
        return super().freshness(decided_at, device_id)


class NeverWaits(WatchedReplica):
    """R6: an answer counts although it is not in the gateway's own history."""

    def freshness(self, decided_at: Position, device_id: str) -> Freshness:
        found = super().freshness(decided_at, device_id)
        touched = self._touched.get(device_id, 0) > decided_at.number
        return Freshness.CURRENT if self.leased and not touched else found


class TrustsTheSweep(WatchedReplica):
    """R7: the lease is a flag set by the last answer or sweep."""

    _flag = False

    @property
    def leased(self) -> bool:
        return self._flag

    @property
    def lease_left(self) -> float:
        left = super().lease_left
        self._flag = left > 0
        return left

    def on_answer(self, answer: HeartbeatAnswer) -> list[Effect]:
        effects = super().on_answer(answer)
        self._flag = self._flag or self._leased_from + 10 > self._clock.monotonic()
        return effects


class KeepsEverybody(WatchedReplica):
    """R8: after a lost history, connections stay open."""

    def _resync(self, *given: Any) -> list[Effect]:
        super()._resync(*given)
        return []


class KeepsItsMemory(WatchedReplica):
    """R8: after a lost history, an earlier answer may still count."""

    def _resync(self, *given: Any) -> list[Effect]:
        floor = self._floor if self.booted else None
        effects = super()._resync(*given)
        self._floor = floor or self._floor
        return effects


class ClosesForAnything(WatchedReplica):
    """R9: any change of a device closes its connections."""

    def on_event(self, news: Changed) -> list[Effect]:
        return super().on_event(msgspec.structs.replace(news, closes=[EVERY_ROLE]))


class ClosesTheRemovedOnly(WatchedReplica):
    """R9: connections of a rotated or revoked device stay open."""

    def on_event(self, news: Changed) -> list[Effect]:
        return super().on_event(self._milder(news))

    def on_answer(self, answer: HeartbeatAnswer) -> list[Effect]:
        changes = [self._milder(change) for change in answer.changes]
        return super().on_answer(msgspec.structs.replace(answer, changes=changes))

    def _milder(self, change: Changed) -> Changed:
        return msgspec.structs.replace(
            change, closes=change.closes if change.kind == "removed" else []
        )


class NeverForgets(WatchedReplica):
    """R10: events of a forgotten history are kept forever."""

    def _forget(self, *given: Any) -> None:
        """Keep it."""
