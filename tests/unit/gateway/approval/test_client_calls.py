"""Calls over the bus: what they carry, and when their outcome may be sent (R11)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest

from services.gateway.approval.client import WRITTEN_WITHIN_SECONDS
from shared.bus.errors import Unavailable
from shared.rpc.messages import (
    Call,
    CallerInfo,
    Changed,
    Error,
    Outcome,
    Position,
    Result,
    decode_question,
    encode,
)
from shared.rpc.requester import DEADLINE_SECONDS
from tests.support.clock import FakeClock, outcome, run_virtual
from tests.unit.gateway.approval.client_case import HEAD, LEASE_SECONDS, ApprovalClientCase
from tests.unit.rpc.fake_bus import reasons

if TYPE_CHECKING:
    from shared.rpc.codec import Item

AHEAD = Position(8, "ahead")
NONSENSE = msgspec.msgpack.encode(["of a later release"])
ASKED = Call(
    "boot:1/1", "device.pair.list", {}, CallerInfo("device-token", "d", "operator", []), 4, 0
)


class ScriptedCase(ApprovalClientCase):
    """Approvals that receive calls: `asked` are the calls."""

    def __init__(self, clock: FakeClock, approvals: int = 1) -> None:
        super().__init__(clock, approvals)
        self.asked: list[Call] = []
        self.outcome: Outcome | None = Result(HEAD, b"{}")
        """The outcome of a call; None: unreadable bytes."""

    def answer_to(self, question: object) -> bytes:
        """Return the outcome of a call."""
        assert isinstance(question, Call)
        self.asked.append(question)
        return NONSENSE if self.outcome is None else encode(self.outcome)


class TestBeforeTheLease:
    def test_without_a_lease_nothing_is_sent(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = ScriptedCase(clock)
            refused = await outcome(case.approvals.call(ASKED))
            assert reasons([refused]) == {("no-lease", "approval"): 1}
            await case.first_beat()
            clock.advance(LEASE_SECONDS)
            refused = await outcome(case.approvals.call(ASKED))
            assert isinstance(refused, Unavailable)
            assert case.asked == []

        run_virtual(scenario)


class TestCalled:
    def test_it_is_void_after_a_while_by_the_stores_clock(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = ScriptedCase(clock)
            await case.first_beat()
            assert await case.approvals.call(ASKED) == case.outcome
            void_ms = case.store_ms + int(WRITTEN_WITHIN_SECONDS * 1000)
            assert case.asked == [msgspec.structs.replace(ASKED, not_after_ms=void_ms)]

        run_virtual(scenario)

    def test_every_try_has_the_same_id(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = ScriptedCase(clock, approvals=3)
            await case.first_beat()
            deaf: list[Call] = []

            def hanging(_gateway: str, items: list[Item]) -> None:
                for item in items:
                    question = decode_question(item.body)
                    if isinstance(question, Call):
                        deaf.append(question)

            for approval in case.gateway.approvals[:2]:
                approval.manner = hanging
            done = await outcome(case.approvals.call(ASKED))
            assert done == case.outcome or reasons([done]) == {("timeout", "approval"): 1}
            assert {call.call_id for call in (*deaf, *case.asked)} == {ASKED.call_id}

        run_virtual(scenario)

    @pytest.mark.parametrize("failed", [Error("INVALID_REQUEST", "unknown requestId")])
    def test_a_failure_is_reported_at_once(self, failed: Error) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = ScriptedCase(clock)
            await case.first_beat()
            case.outcome = failed
            began = clock.monotonic()
            assert await case.approvals.call(ASKED) == failed
            assert clock.monotonic() == began

        run_virtual(scenario)

    def test_an_unreadable_answer_counts_as_none(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = ScriptedCase(clock)
            await case.first_beat()
            case.outcome = None
            refused = await outcome(case.approvals.call(ASKED))
            assert reasons([refused]) == {("no-responder", "approval"): 1}

        run_virtual(scenario)

    def test_without_any_answer_it_is_given_up_in_time(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = ScriptedCase(clock)
            await case.first_beat()
            case.gateway.board.redis_hangs = True
            began = clock.monotonic()
            refused = await outcome(case.approvals.call(ASKED))
            assert reasons([refused]) == {("redis", "redis"): 1}
            assert clock.monotonic() - began <= DEADLINE_SECONDS

        run_virtual(scenario)


class TestApplied:
    """A call's change is applied and broadcast before its outcome is sent."""

    def test_a_result_waits_for_an_event_that_arrives_later(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = ScriptedCase(clock)
            await case.first_beat()
            case.outcome = Result(AHEAD, b"{}")
            calling = asyncio.create_task(case.approvals.call(ASKED))
            await asyncio.sleep(0.5)
            assert not calling.done()
            case.beater.on_event(Changed(AHEAD, HEAD.tag, "device", "approved", 0))
            assert await calling == case.outcome
            assert case.beat.applied == AHEAD

        run_virtual(scenario)

    def test_a_lost_event_is_recovered_by_a_heartbeat(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = ScriptedCase(clock)
            await case.first_beat()
            case.outcome = Result(AHEAD, b"{}")
            case.head = AHEAD
            case.changes = [Changed(AHEAD, HEAD.tag, "device", "approved", 0)]
            began = clock.monotonic()
            assert await case.approvals.call(ASKED) == case.outcome
            assert case.beat.applied == AHEAD
            assert clock.monotonic() - began < 0.5, "a heartbeat was sent at once"

        run_virtual(scenario)

    def test_the_outcome_is_sent_anyway_once_that_takes_too_long(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = ScriptedCase(clock)
            await case.first_beat()
            case.outcome = Result(AHEAD, b"{}")
            began = clock.monotonic()
            assert await case.approvals.call(ASKED) == case.outcome
            assert clock.monotonic() - began == pytest.approx(DEADLINE_SECONDS)

        run_virtual(scenario)
