"""The replication state machine: change numbers, gaps and the lease. Pure.

Messages and the clock go in, effects come out. Each gateway has one Replica. It tracks the last
applied change, recent changes per device and the end of the lease. The rules R1 to R12 that it
implements are explained in docs/replication.md.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from shared.rpc.messages import Position

if TYPE_CHECKING:
    from shared.clock import Clock
    from shared.rpc.messages import Changed, HeartbeatAnswer

REMEMBERED_CHANGES: Final = 4096
"""How many changes are remembered; an answer older than all of them must be asked for again."""
UNANSWERED_HEARTBEATS_LIMIT: Final = 64
"""How many unanswered heartbeats are remembered; answers to older ones are ignored."""
CLOSING_SECONDS: Final = 0.25
"""How long before the lease ends service stops, so that all connections are closed by its end."""


@dataclass(frozen=True, slots=True)
class CloseDevice:
    """Close a device's connections in the change's roles: remove, rotate or revoke (R9)."""

    change: Changed


@dataclass(frozen=True, slots=True)
class AnnounceChange:
    """Broadcast an applied change; each is announced once, in order."""

    change: Changed


@dataclass(frozen=True, slots=True)
class CloseEverybody:
    """History was lost: stop serving all connections, and close them by `until` (R8).

    `until` is in monotonic seconds: the end of the lease that they were admitted under.
    """

    until: float


class SyncNow(Enum):
    """Send a heartbeat soon, to fetch missing changes."""

    SYNC_NOW = auto()


class Progressed(Enum):
    """The applied position or the lease has progressed; waiting requests should check again."""

    PROGRESSED = auto()


SYNC_NOW: Final = SyncNow.SYNC_NOW
PROGRESSED: Final = Progressed.PROGRESSED
Effect = CloseDevice | AnnounceChange | CloseEverybody | SyncNow | Progressed


class Freshness(Enum):
    """Whether an answer from approval is current."""

    CURRENT = auto()
    AHEAD = auto()
    """The answer depends on a change that is not applied here yet: sync, then check again."""
    STALE = auto()
    """A newer change concerns the device, or the answer comes from another history."""
    NO_LEASE = auto()


_CURRENT: Final = Freshness.CURRENT


@dataclass(frozen=True, slots=True)
class _Remembered:
    """A remembered change: its device, and its place in the order of receipt."""

    device_id: str
    order: int


@dataclass(frozen=True, slots=True)
class _Sent:
    """An unanswered heartbeat: when it was sent, and how many changes were received before."""

    at: float
    received: int


class Replica:
    """One gateway's position in the history of all records, and its lease."""

    def __init__(self, clock: Clock, *, lease_seconds: float) -> None:
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._served_seconds = lease_seconds - CLOSING_SECONDS
        self.applied = Position()
        self.booted = False
        """Whether any answer has set the initial position."""
        self.head_seen = 0
        """The highest change number seen; changes between `applied` and it are missing."""
        self._floor = Position()
        self._memory: dict[Position, _Remembered] = {}
        self._received = 0
        self._history: OrderedDict[int, str] = OrderedDict()
        self._touched: dict[str, float] = {}
        self._leased_from = float("-inf")
        self._sent: OrderedDict[int, _Sent] = OrderedDict()
        self._last_id = 0
        self._newest_answered = 0

    @property
    def lease_ms(self) -> int:
        """The length of the lease in milliseconds."""
        return round(self._lease_seconds * 1000)

    @property
    def lease_left(self) -> float:
        """Seconds until the lease ends; negative afterwards. Computed from the clock (R7)."""
        return self._leased_from + self._lease_seconds - self._clock.monotonic()

    @property
    def lease_age(self) -> float:
        """Seconds since the heartbeat was sent from which the lease runs."""
        return self._clock.monotonic() - self._leased_from

    @property
    def behind(self) -> int:
        """The number of changes that are seen but not applied."""
        return self.head_seen - self.applied.number

    @property
    def leased(self) -> bool:
        """Whether clients may be admitted and served now.

        Not in the last CLOSING_SECONDS of the lease: whoever was admitted then would be closed by
        the next sweep.
        """
        return self.is_leased()

    def is_leased(self) -> bool:
        """Return `leased`, for callers that check every frame: it saves a call."""
        return self._leased_from + self._served_seconds > self._clock.monotonic()

    def next_heartbeat(self) -> int:
        """Register a heartbeat sent now and return its id; its lease starts at this time (R1)."""
        self._last_id += 1
        self._sent[self._last_id] = _Sent(self._clock.monotonic(), self._received)
        if len(self._sent) > UNANSWERED_HEARTBEATS_LIMIT:
            self._sent.popitem(last=False)
        return self._last_id

    def on_event(self, event: Changed) -> list[Effect]:
        """Handle a change event, in order or not (R5)."""
        if not self.booted:
            return []
        if event.change.number <= self.applied.number:
            known = self._tag_at(event.change.number)
            if known == event.change.tag:
                return []
            self._remember(event)
            return [] if known is None else [*_closing(event), SYNC_NOW]
        self.head_seen = max(self.head_seen, event.change.number)
        if self._follows(event):
            return [*self._apply(event), PROGRESSED]
        self._remember(event)
        return [*_closing(event), SYNC_NOW]

    def on_answer(self, answer: HeartbeatAnswer) -> list[Effect]:
        """Handle the answer to a heartbeat (R1, R4, R5, R8, R10)."""
        sent = self._sent.pop(answer.heartbeat_id, None)
        if sent is None or answer.heartbeat_id < self._newest_answered:
            return []
        self._newest_answered = answer.heartbeat_id
        for older in [
            heartbeat_id for heartbeat_id in self._sent if heartbeat_id < answer.heartbeat_id
        ]:
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
        """Return whether an answer decided at a position is current for a device (R6, R7)."""
        if self._leased_from + self._served_seconds <= self._clock.monotonic():
            return Freshness.NO_LEASE
        number = decided_at.number
        if decided_at == self.applied and device_id not in self._touched:
            return _CURRENT  # what nearly every answer is
        if number < self._floor.number or self._touched.get(device_id, 0) > number:
            return Freshness.STALE
        if number > self.applied.number:
            return Freshness.AHEAD
        known = self._tag_at(number)
        return _CURRENT if known == decided_at.tag else Freshness.STALE

    def has_applied(self, change: Position) -> bool:
        """Return whether a change is applied; a change of another history is not (R5)."""
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
        self._received += 1
        self._memory[change.change] = _Remembered(change.device_id, self._received)
        self._touch(change.change, change.device_id)
        if len(self._memory) > REMEMBERED_CHANGES:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        """Drop the oldest applied changes, an eighth of the memory, and raise the floor."""
        applied = sorted(c for c in self._memory if c.number <= self.applied.number)
        for change in applied[: REMEMBERED_CHANGES // 8]:
            del self._memory[change]
            tag = self._history.pop(change.number, None)
            if tag is not None:
                self._floor = Position(change.number, tag)
        self._index()

    def _resync(self, answer: HeartbeatAnswer) -> list[Effect]:
        until = self._leased_from + self._lease_seconds
        first = not self.booted
        self.booted = True
        self.applied = self._floor = answer.head
        self._history.clear()
        self._sent.clear()  # those heartbeats reported the old position
        for change in [c for c in self._memory if c.number <= answer.head.number]:
            del self._memory[change]
        self._index()
        return [] if first else [CloseEverybody(until)]

    def _forget(self, sent: _Sent) -> None:
        """Drop changes of a lost history (R10): received before `sent`, but not in this history."""
        gone = [
            change
            for change, remembered in self._memory.items()
            if remembered.order <= sent.received and self._tag_at(change.number) != change.tag
        ]
        for change in gone:
            del self._memory[change]
        if gone:
            self._index()

    def _index(self) -> None:
        self._touched.clear()
        for change, remembered in self._memory.items():
            self._touch(change, remembered.device_id)

    def _touch(self, change: Position, device_id: str) -> None:
        """Make answers about a device stale if they were decided before a change (R6).

        A change that is not newer than `applied` and not in the local history may be in the
        store's history, so every answer about the device must be asked for again.
        """
        number = change.number
        foreign = number <= self.applied.number and self._tag_at(number) != change.tag
        after = float("inf") if foreign else number
        self._touched[device_id] = max(self._touched.get(device_id, 0), after)


def _closing(event: Changed) -> list[Effect]:
    return [CloseDevice(event)] if event.closes else []
