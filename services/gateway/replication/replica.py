"""The beat: numbers, lease and gaps. Pure: messages and the clock in, effects out.

One object a gateway. It knows up to which change everything has been applied, what it recently
learned about devices, and until when the lease runs. The rules R1 to R12 that it keeps are told,
with what each prevents, in docs/architecture.md.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from shared.rpc.messages import Position

if TYPE_CHECKING:
    from shared.clock import Clock
    from shared.rpc.messages import BeatAnswer, Changed

REMEMBERED_CHANGES: Final = 4096
"""How many changes are remembered; an answer decided before all of them is asked for anew."""
BEATS_OUT_LIMIT: Final = 64
"""How many unanswered beats are remembered; an answer to an older one is dropped."""


@dataclass(frozen=True, slots=True)
class CloseDevice:
    """Close what a device has open in these roles: it was removed, rotated or revoked (R9)."""

    change: Changed


@dataclass(frozen=True, slots=True)
class AnnounceChange:
    """A change was applied: tell those who may hear of it. Each comes once, in order."""

    change: Changed


@dataclass(frozen=True, slots=True)
class CloseEverybody:
    """History was lost: nobody is served any more, and all are closed until then (R8).

    `until` is a point in monotonic time: the end of the lease that they were admitted under.
    """

    until: float


class SyncNow(Enum):
    """Send a beat at once: something is missing."""

    SYNC_NOW = auto()


class Progressed(Enum):
    """The applied change or the lease moved: whoever waits for that may look again."""

    PROGRESSED = auto()


SYNC_NOW: Final = SyncNow.SYNC_NOW
PROGRESSED: Final = Progressed.PROGRESSED
Effect = CloseDevice | AnnounceChange | CloseEverybody | SyncNow | Progressed


class Freshness(Enum):
    """What an answer to a question is worth now."""

    COUNTS = auto()
    WAIT = auto()
    """It was decided at a change that is not applied here yet: beat, and look again."""
    ASK_AGAIN = auto()
    """Something newer touches the device, or it comes from another history."""
    NO_LEASE = auto()


@dataclass(frozen=True, slots=True)
class _Heard:
    """A remembered change: whose, and as the how manieth it was heard."""

    device_id: str
    order: int


@dataclass(frozen=True, slots=True)
class _Sent:
    """A beat that is out: when it went, and how many changes had been heard by then."""

    at: float
    heard: int


class Replica:
    """What one gateway knows of the history of all records, and for how long it may rely on it."""

    def __init__(self, clock: Clock, *, lease_seconds: float) -> None:
        self._clock = clock
        self._lease_seconds = lease_seconds
        self.applied = Position()
        self.booted = False
        """Whether an answer has ever told where history stands."""
        self.head_seen = 0
        """The highest change number heard of: what lies above `applied` is still missing."""
        self._floor = Position()
        self._memory: dict[Position, _Heard] = {}
        self._heard = 0
        self._history: OrderedDict[int, str] = OrderedDict()
        self._touched: dict[str, float] = {}
        self._leased_from = float("-inf")
        self._sent: OrderedDict[int, _Sent] = OrderedDict()
        self._last_id = 0
        self._newest_answered = 0

    @property
    def lease_ms(self) -> int:
        """How long a lease is."""
        return round(self._lease_seconds * 1000)

    @property
    def lease_left(self) -> float:
        """Seconds until the lease ends; negative once it has (R7: read off the clock)."""
        return self._leased_from + self._lease_seconds - self._clock.monotonic()

    @property
    def behind(self) -> int:
        """How many changes have been heard of and not applied."""
        return self.head_seen - self.applied.number

    @property
    def leased(self) -> bool:
        """Whether anybody may be admitted or served right now."""
        return self.lease_left > 0

    def next_heartbeat(self) -> int:
        """Note that a beat goes out now; returns its id. The lease runs from here (R1)."""
        self._last_id += 1
        self._sent[self._last_id] = _Sent(self._clock.monotonic(), self._heard)
        if len(self._sent) > BEATS_OUT_LIMIT:
            self._sent.popitem(last=False)
        return self._last_id

    def on_event(self, news: Changed) -> list[Effect]:
        """Take a change that was told; out of order or not (R5)."""
        if not self.booted:
            return []
        if news.change.number <= self.applied.number:
            known = self._tag_at(news.change.number)
            if known == news.change.tag:
                return []
            self._remember(news)
            return [] if known is None else [*_closing(news), SYNC_NOW]
        self.head_seen = max(self.head_seen, news.change.number)
        if self._follows(news):
            return [*self._apply(news), PROGRESSED]
        self._remember(news)
        return [*_closing(news), SYNC_NOW]

    def on_answer(self, answer: BeatAnswer) -> list[Effect]:
        """Take the answer to a beat (R1, R4, R5, R8, R10)."""
        sent = self._sent.pop(answer.beat_id, None)
        if sent is None or answer.beat_id < self._newest_answered:
            return []
        self._newest_answered = answer.beat_id
        for older in [beat_id for beat_id in self._sent if beat_id < answer.beat_id]:
            del self._sent[older]
        effects: list[Effect] = []
        if answer.resync or not self.booted:
            effects += self._resync(answer)
        else:
            for change in answer.changes:
                if self._follows(change):
                    effects += self._apply(change)
        self.head_seen = max(self.applied.number, answer.head.number)
        if self.applied != answer.head:
            return [*effects, PROGRESSED, SYNC_NOW]
        self._leased_from = max(self._leased_from, sent.at)
        self._forget(sent)
        return [*effects, PROGRESSED]

    def freshness(self, decided_at: Position, device_id: str) -> Freshness:
        """Say what an answer is worth that was decided at a change (R6, R7)."""
        if not self.leased:
            return Freshness.NO_LEASE
        number = decided_at.number
        if number < self._floor.number or self._touched.get(device_id, 0) > number:
            return Freshness.ASK_AGAIN
        if number > self.applied.number:
            return Freshness.WAIT
        known = self._tag_at(number)
        return Freshness.COUNTS if known == decided_at.tag else Freshness.ASK_AGAIN

    def has_applied(self, change: Position) -> bool:
        """Say whether a change has been applied; one of another history has not (R5)."""
        known = self._tag_at(change.number)
        return change.number <= self.applied.number and known in {None, change.tag}

    def _tag_at(self, number: int) -> str | None:
        """Return the tag of an applied change; None below the floor."""
        return self._floor.tag if number == self._floor.number else self._history.get(number)

    def _follows(self, change: Changed) -> bool:
        return (
            change.change.number == self.applied.number + 1
            and change.previous_tag == self.applied.tag
        )

    def _apply(self, change: Changed) -> list[Effect]:
        self.applied = change.change
        self._history[change.change.number] = change.change.tag
        known = change.change in self._memory
        self._remember(change)
        return [*([] if known else _closing(change)), AnnounceChange(change)]

    def _remember(self, change: Changed) -> None:
        self._heard += 1
        self._memory[change.change] = _Heard(change.device_id, self._heard)
        self._touch(change.change, change.device_id)
        if len(self._memory) > REMEMBERED_CHANGES:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        """Drop an eighth of what is remembered and applied; the floor rises."""
        applied = sorted(c for c in self._memory if c.number <= self.applied.number)
        for change in applied[: REMEMBERED_CHANGES // 8]:
            del self._memory[change]
            tag = self._history.pop(change.number, None)
            if tag is not None:
                self._floor = Position(change.number, tag)
        self._index()

    def _resync(self, answer: BeatAnswer) -> list[Effect]:
        until = self._leased_from + self._lease_seconds
        first = not self.booted
        self.booted = True
        self.applied = self._floor = answer.head
        self._history.clear()
        self._sent.clear()  # those beats told of the old place, and are answered for it
        for change in [c for c in self._memory if c.number <= answer.head.number]:
            del self._memory[change]
        self._index()
        return [] if first else [CloseEverybody(until)]

    def _forget(self, sent: _Sent) -> None:
        """Drop news of a forgotten history (R10): heard before the beat went, and not in this."""
        gone = [
            change
            for change, one in self._memory.items()
            if one.order <= sent.heard and self._tag_at(change.number) != change.tag
        ]
        for change in gone:
            del self._memory[change]
        if gone:
            self._index()

    def _index(self) -> None:
        self._touched.clear()
        for change, one in self._memory.items():
            self._touch(change, one.device_id)

    def _touch(self, change: Position, device_id: str) -> None:
        """Have answers asked for anew that were decided before a change (R6).

        One that is not above, and not in this history, may be in the store's: all answers are.
        """
        number = change.number
        foreign = number <= self.applied.number and self._tag_at(number) != change.tag
        after = float("inf") if foreign else number
        self._touched[device_id] = max(self._touched.get(device_id, 0), after)


def _closing(news: Changed) -> list[Effect]:
    return [CloseDevice(news)] if news.closes else []
