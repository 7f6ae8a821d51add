"""Limits of a responder, and its shutdown."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.bus import counters
from shared.rpc.codec import QUESTIONS_PER_MESSAGE, encode
from shared.rpc.responder import LEAVE_SECONDS, QUESTIONS_IN_FLIGHT_LIMIT
from tests.support.clock import FakeClock, run_virtual, turns
from tests.unit.rpc.answering import Approval


class TestBounds:
    def test_a_message_over_the_limit_is_busy_at_once_as_a_whole(self) -> None:
        async def scenario(_: FakeClock) -> None:
            approval = Approval(in_flight_limit=10)
            approval.gate = asyncio.Event()
            approval.ask(*range(8))
            approval.ask(*range(3), gateway="late")
            await turns()
            assert approval.answers("late") == [[(n, "busy", None) for n in range(3)]]
            assert len(approval.handled) == 1
            assert approval.counts.of[counters.QUESTIONS_BUSY,] == 3
            approval.ask(*range(2), gateway="fits")
            approval.gate.set()
            await turns()
            assert len(approval.answers("fits")[0]) == 2
            approval.ask(*range(10), gateway="late")
            await turns()
            assert len(approval.answers("late")[1]) == 10

        run_virtual(scenario)

    def test_the_limit_is_enough_for_several_gateways(self) -> None:
        assert QUESTIONS_IN_FLIGHT_LIMIT >= 4 * 1024

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"\xc0",
            b"\x91\xdd\xff\xff\xff\xff",
            b"\x91\x91\x92\x01" + b"\x91" * 100_000,
            b"\x91\x91\x92\xd4\x05\x01\xc0",
            encode([[[n, 1] for n in range(QUESTIONS_PER_MESSAGE + 1)]]),
            b"\x91\xdd\x00\x04\x00\x00" + b"\x92\x01\xc0" * (1 << 18),
            encode([[["x", 1]]]),
        ],
        ids=range(8),
    )
    def test_bombs_and_nonsense_are_dropped_and_counted(self, body: bytes) -> None:
        async def scenario(_: FakeClock) -> None:
            approval = Approval()
            approval.take(body)
            approval.ask("next")
            await turns()
            assert approval.counts.of[counters.QUESTIONS_DROPPED, "malformed"] == 1
            assert len(approval.handled) == 1

        run_virtual(scenario)

    @settings(max_examples=200)
    @given(st.binary(max_size=200))
    def test_no_body_whatever_makes_the_responder_raise(self, body: bytes) -> None:
        async def scenario(_: FakeClock) -> None:
            approval = Approval()
            approval.replies = []
            approval.take(body)
            await turns()
            assert approval.responder.in_flight == 0

        run_virtual(scenario)

    def test_a_message_without_questions_is_nothing(self) -> None:
        async def scenario(_: FakeClock) -> None:
            approval = Approval()
            approval.ask()
            await turns()
            assert approval.board.published == []

        run_virtual(scenario)

    def test_fields_a_later_release_appended_are_ignored(self) -> None:
        async def scenario(_: FakeClock) -> None:
            approval = Approval()
            approval.take(encode([[[7, "question", "new", 1]], "newer"]))
            await turns()
            assert approval.answers() == [[(7, "ok", ["question", "gateway"])]]

        run_virtual(scenario)


class TestStop:
    def test_pending_requests_are_answered_and_new_ones_redirected(self) -> None:
        async def scenario(_: FakeClock) -> None:
            approval = Approval()
            approval.gate = asyncio.Event()
            approval.ask("early")
            await turns()
            stopping = asyncio.create_task(approval.responder.stop())
            await turns()
            approval.ask("late", gateway="other")
            await turns()
            assert approval.answers("other") == [[(0, "busy", None)]]
            assert not stopping.done()
            approval.gate.set()
            await stopping
            assert approval.answers() == [[(0, "ok", ["early", "gateway"])]]
            approval.ask("too late")
            await turns()
            assert approval.counts.of[counters.QUESTIONS_DROPPED, "stopped"] == 1

        run_virtual(scenario)

    def test_what_takes_too_long_is_left_without_an_answer(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            approval = Approval()
            approval.gate = asyncio.Event()
            approval.ask(1)
            await turns()
            started = clock.monotonic()
            await approval.responder.stop(grace_seconds=2.0)
            assert clock.monotonic() - started == pytest.approx(2.0)
            assert approval.board.published == []
            assert approval.responder.in_flight == 0

        run_virtual(scenario)

    def test_a_redis_that_hangs_does_not_hold_it_up(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            approval = Approval()
            approval.board.redis_hangs = True
            approval.ask(1)
            started = clock.monotonic()
            await approval.responder.stop()
            assert LEAVE_SECONDS <= clock.monotonic() - started < 3.0
            assert len(approval.board.published) == 1, "it was on its way"

        run_virtual(scenario)
