"""What Heartbeat sends, and to whom, when it carries out the replica's effects."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest

from services.gateway.approval.heartbeat import Heartbeat
from services.gateway.metrics import Metrics
from services.gateway.replication.presence import Presence
from services.gateway.replication.recent_refusals import RecentRefusals
from services.gateway.replication.replica import Replica
from shared.rpc.messages import (
    Changed,
    HeartbeatAnswer,
    HeartbeatQuestion,
    Position,
    decode_question,
    encode,
)
from tests.support.clock import FakeClock, turns
from tests.unit.gateway.fake_connections import DEVICE_ID, FakeSessions, closes, texts

if TYPE_CHECKING:
    from services.gateway.replication.replica import Effect

LEASE_SECONDS = 10
BEAT_SECONDS = 1
PAIRING = "operator.pairing"
HEAD = Position(1, "t1")


def change(number: int, kind: str, *, closing: bool = False) -> Changed:
    """Return a change that follows the one before it."""
    return Changed(
        change=Position(number, f"t{number}"),
        previous_tag=f"t{number - 1}",
        device_id=DEVICE_ID if closing else "another",
        kind=kind,
        at_ms=0,
        closes=["*"] if closing else [],
    )


class HeartbeatCase:
    """A Heartbeat with a lease, over connections without sockets; nothing is sent to approval."""

    def __init__(self) -> None:
        self.sessions = FakeSessions()
        self.beat = Replica(self.sessions.clock, lease_seconds=LEASE_SECONDS)
        self.beater = Heartbeat(
            replica=self.beat,
            presence=Presence(),
            refusals=RecentRefusals(),
            requester=cast("Any", None),
            connections=self.sessions.connections,
            metrics=Metrics(),
            clock=self.sessions.clock,
            beat_seconds=BEAT_SECONDS,
            on_presence=lambda _version: None,
        )
        self.sessions.leased = lambda: self.beat.leased
        self.answered(HEAD, resync=True)

    def answered(self, head: Position, *changes: Changed, resync: bool = False) -> list[Effect]:
        """Send a heartbeat that is answered at once."""
        heartbeat_id = self.beat.next_heartbeat()
        answer = HeartbeatAnswer(heartbeat_id, head, 0, 0, resync=resync, changes=list(changes))
        return self.beat.on_answer(answer)


@pytest.fixture
async def case() -> HeartbeatCase:
    return HeartbeatCase()


async def test_clients_with_the_pairing_scope_get_changes(case: HeartbeatCase) -> None:
    connection = case.sessions.enter(PAIRING)
    case.beater.on_event(change(2, "renamed"))
    assert [message["event"] for message in texts(connection)] == ["device.pair.changed"]


async def test_after_the_lease_nothing_is_sent(case: HeartbeatCase) -> None:
    """A process that was stopped handles missed events before its timers."""
    connection = case.sessions.enter(PAIRING)
    case.sessions.clock.advance(LEASE_SECONDS + 1)
    case.beater.on_event(change(2, "renamed"))
    case.beater.on_event(change(3, "removed", closing=True))
    assert texts(connection) == []
    assert closes(connection) == [(1013, "approval unavailable")]


async def test_a_removed_device_gets_no_earlier_event_of_the_same_answer(
    case: HeartbeatCase,
) -> None:
    one, other = case.sessions.enter(PAIRING), case.sessions.enter(PAIRING, device_id="other")
    caught_up = case.answered(
        Position(3, "t3"), change(2, "renamed"), change(3, "removed", closing=True)
    )
    case.beater._carry_out(caught_up)
    assert (texts(one), closes(one)) == ([], [(4001, "device removed")])
    assert [message["event"] for message in texts(other)] == ["device.pair.changed"]


class TestStoreTime:
    """The estimate of the store's clock, from which questions take their deadlines."""

    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock()

    @pytest.fixture
    def beats(self, clock: FakeClock) -> Beats:
        return Beats(clock)

    async def test_it_is_unknown_before_the_first_answer(self, beats: Beats) -> None:
        assert beats.heartbeat.store_offset_ms is None

    async def test_it_is_not_ahead_however_slow_the_answer(self, beats: Beats) -> None:
        await beats.exchange(0.2, 1.5)
        assert beats.ahead_ms() == -1500

    async def test_a_fast_answer_makes_it_exact_and_a_slow_one_leaves_it_so(
        self, beats: Beats
    ) -> None:
        for there, back in ((0.2, 1.5), (0.01, 0.01), (1.2, 0.5), (0.1, 1.8)):
            await beats.exchange(there, back)
        assert -10 <= beats.ahead_ms() <= 0

    @pytest.mark.parametrize("step_ms", [-5_000, 5_000])
    async def test_a_store_with_another_clock_is_followed_at_once(
        self, beats: Beats, step_ms: int
    ) -> None:
        """After a failover, the new primary's clock counts."""
        await beats.exchange(0.01, 0.01)
        beats.store_ms += step_ms
        await beats.exchange(0.01, 0.01)
        assert abs(beats.ahead_ms()) <= 10


class TestOverdueAnswers:
    """Which announcements of an approval replica cause a heartbeat before the regular one."""

    @pytest.mark.parametrize(("seconds", "extra"), [(1.4, 0), (1.6, 1), (LEASE_SECONDS + 1, 1)])
    async def test_an_announcement_causes_a_heartbeat_once_an_answer_is_overdue(
        self, seconds: float, extra: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = FakeClock()
        beats = Beats(clock)
        await beats.exchange(0, 0)
        synced: list[float] = []
        monkeypatch.setattr(beats.heartbeat, "sync_now", lambda: synced.append(clock.monotonic()))
        beats.heartbeat.on_approval_alive()
        assert synced == []
        clock.advance(seconds * BEAT_SECONDS)
        beats.heartbeat.on_approval_alive()
        assert len(synced) == extra

    async def test_an_announcement_before_the_first_answer_causes_a_heartbeat(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        beats = Beats(FakeClock())
        synced: list[bool] = []
        monkeypatch.setattr(beats.heartbeat, "sync_now", lambda: synced.append(True))
        beats.heartbeat.on_approval_alive()
        assert synced == [True]


class Beats:
    """A Heartbeat whose answers take as long as a test says, and the store that they come from."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.store_ms = 50_000_000.0
        """The store's time when this machine's clock shows 0."""
        self._sent: list[tuple[HeartbeatQuestion, asyncio.Future[msgspec.Raw]]] = []
        self.heartbeat = Heartbeat(
            replica=Replica(clock, lease_seconds=LEASE_SECONDS),
            presence=Presence(),
            refusals=RecentRefusals(),
            requester=cast("Any", self),
            connections=FakeSessions().connections,
            metrics=Metrics(),
            clock=clock,
            beat_seconds=BEAT_SECONDS,
            on_presence=lambda _version: None,
        )

    def submit(self, question: bytes, *, urgent: bool) -> asyncio.Future[msgspec.Raw]:
        """Take a heartbeat, as the requester would."""
        assert urgent
        answer: asyncio.Future[msgspec.Raw] = asyncio.get_running_loop().create_future()
        decoded = decode_question(question)
        assert isinstance(decoded, HeartbeatQuestion)
        self._sent.append((decoded, answer))
        return answer

    async def exchange(self, there: float, back: float) -> None:
        """Send a heartbeat that takes this long to the store, and its answer this long back."""
        running = asyncio.create_task(self.heartbeat.run())
        await turns()
        question, answer = self._sent.pop()
        self.clock.advance(there)
        now_ms = int(self._store_now())
        self.clock.advance(back)
        beat = HeartbeatAnswer(question.heartbeat_id, HEAD, now_ms, 0)
        answer.set_result(msgspec.Raw(encode(beat)))
        await turns()
        running.cancel()

    def ahead_ms(self) -> float:
        """Return how far the estimate is ahead of the store's clock."""
        estimate = self.heartbeat.store_offset_ms
        assert estimate is not None
        return round(estimate - self.store_ms)

    def _store_now(self) -> float:
        return self.store_ms + self.clock.monotonic() * 1000
