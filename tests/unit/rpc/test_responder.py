"""Responder: one handler call per message, bounded, and no answer rather than a wrong one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from structlog.testing import capture_logs

from shared.bus import counters
from shared.bus.channels import inbox_channel
from shared.bus.envelope import VERSION
from shared.bus.errors import Unavailable
from shared.rpc.codec import BODY_LIMIT_BYTES, QUESTIONS_PER_MESSAGE, encode
from shared.rpc.responder import BUSY, HANDLE_SECONDS, Question, Reply
from tests.support.clock import FakeClock, run_virtual, turns
from tests.unit.rpc.answering import Approval

if TYPE_CHECKING:
    from collections.abc import Sequence


class TestAnswering:
    def test_the_handler_gets_all_questions_of_a_message_at_once(self) -> None:
        async def scenario(_: FakeClock) -> None:
            approval = Approval()
            approval.ask("a", "b", "c")
            await turns()
            assert [len(questions) for questions in approval.handled] == [3]
            assert approval.handled[0][1] == Question("gateway", msgspec.Raw(encode("b")))
            assert approval.answers() == [
                [(n, "ok", [text, "gateway"]) for n, text in enumerate("abc")]
            ]
            assert approval.responder.in_flight == 0
            assert approval.counts.of[counters.QUESTIONS_TAKEN,] == 3
            assert approval.counts.of[counters.ANSWERS_SENT,] == 3

        run_virtual(scenario)

    def test_answers_ready_in_one_turn_for_one_gateway_travel_in_one_message(self) -> None:
        async def scenario(_: FakeClock) -> None:
            approval = Approval()
            approval.gate = asyncio.Event()
            for gateway in ("one", "two", "one"):
                approval.ask("x", gateway=gateway)
            await turns()
            assert approval.board.published == []
            approval.gate.set()
            await turns()
            assert [channel for channel, _ in approval.board.published] == [
                inbox_channel("one"),
                inbox_channel("two"),
            ]
            assert [len(message) for message in approval.answers("one")] == [2]

        run_virtual(scenario)

    def test_a_message_of_answers_stays_within_its_limits(self) -> None:
        async def scenario(_: FakeClock) -> None:
            approval = Approval()
            for _n in range(2):
                approval.ask(*range(QUESTIONS_PER_MESSAGE))
            await turns()
            approval.replies = [encode(bytes(700_000))] * 3
            approval.ask(1, 2, 3, gateway="other")
            await turns()
            assert [len(m) for m in approval.inboxes["gateway"]] == [QUESTIONS_PER_MESSAGE] * 2
            assert len(approval.inboxes["other"]) == 3

        run_virtual(scenario)

    def test_none_is_no_answer_and_busy_is_busy(self) -> None:
        async def scenario(_: FakeClock) -> None:
            approval = Approval()
            approval.replies = [None, BUSY, msgspec.Raw(b"\xc3"), b"\xc2"]
            approval.ask(*range(4))
            await turns()
            assert approval.answers() == [[(1, "busy", None), (2, "ok", True), (3, "ok", False)]]
            assert approval.counts.of[counters.QUESTIONS_BUSY,] == 1
            approval.replies = [None]
            approval.ask(1)
            await turns()
            assert len(approval.board.published) == 1

        run_virtual(scenario)

    def test_an_answer_too_large_for_any_message_is_lost_and_counted(self) -> None:
        async def scenario(_: FakeClock) -> None:
            approval = Approval()
            largest = encode(bytes(BODY_LIMIT_BYTES - 5))
            approval.replies = [largest + b"\0", largest, b"\xc3"]
            approval.ask(1, 2, 3)
            await turns()
            assert [m[0].id for m in approval.inboxes["gateway"]] == [1, 2]
            assert approval.counts.of[counters.ANSWERS_LOST, "oversized"] == 1

        run_virtual(scenario)

    def test_answers_that_reach_nobody_are_counted_and_do_no_harm(self) -> None:
        async def scenario(_: FakeClock) -> None:
            approval = Approval()
            approval.board.redis_down = True
            approval.ask(1, 2)
            await turns()
            assert approval.counts.of[counters.ANSWERS_LOST, "redis"] == 2

            def full(channel: str, data: bytes, then: object) -> Any:
                raise Unavailable("redis")

            publish, approval.responder._publish = approval.responder._publish, full
            approval.ask(3)
            await turns()
            assert approval.counts.of[counters.ANSWERS_LOST, "redis"] == 3
            approval.responder._publish = publish
            approval.board.redis_down = False
            approval.board._listeners.clear()
            approval.ask(4)
            await turns()
            assert approval.counts.of[counters.ANSWERS_LOST, "asker-gone"] == 1

        run_virtual(scenario)


class TestRollingDeployment:
    def test_a_gateway_that_writes_the_next_version_is_answered(self) -> None:
        async def scenario(_: FakeClock) -> None:
            approval = Approval()
            approval.envelope._readable = {VERSION, VERSION + 1}
            approval.ask("first")
            approval._gateways["gateway"]._version = bytes((VERSION + 1,))
            approval.ask("second")
            await turns()
            assert [len(message) for message in approval.answers()] == [2]

        run_virtual(scenario)


class TestHandlersThatFail:
    @pytest.mark.parametrize(
        "replies",
        [RuntimeError("broken"), TimeoutError(), [], [b"\xc3"], [b"\xc3"] * 3, ["text", 1]],
        ids=str,
    )
    def test_they_give_no_answer_and_the_next_message_is_answered(
        self, replies: Sequence[Reply] | Exception
    ) -> None:
        async def scenario(_: FakeClock) -> None:
            approval = Approval()
            approval.replies = replies
            with capture_logs() as logs:
                approval.ask("secret", 2)
                await turns()
            assert approval.board.published == []
            assert approval.responder.in_flight == 0
            assert approval.counts.of[counters.HANDLER_FAILURES,] == 1
            assert [log["event"] for log in logs] == ["bus_handler_failed"]
            assert "secret" not in str(logs)
            approval.replies = None
            approval.ask("next")
            await turns()
            assert approval.answers() == [[(0, "ok", ["next", "gateway"])]]

        run_virtual(scenario)

    def test_one_that_takes_too_long_gives_no_answer(self) -> None:
        async def scenario(_: FakeClock) -> None:
            approval = Approval()
            approval.gate = asyncio.Event()
            approval.ask(1)
            await asyncio.sleep(HANDLE_SECONDS - 0.001)
            assert approval.responder.in_flight == 1
            await asyncio.sleep(0.002)
            assert approval.responder.in_flight == 0
            assert approval.counts.of[counters.HANDLER_FAILURES,] == 1
            late: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
            approval.replies = [late]
            approval.gate.set()
            await turns()
            assert late.cancelled(), "nobody waits for it"
            assert approval.board.published == []
            assert approval.responder.in_flight == 0

        run_virtual(scenario)


class TestLateReplies:
    def test_they_do_not_hold_up_the_others_of_their_message(self) -> None:
        async def scenario(_: FakeClock) -> None:
            approval = Approval()
            late: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
            approval.replies = [b"\xc2", late, b"\xc3"]
            approval.ask(*range(3))
            await turns()
            assert approval.answers() == [[(0, "ok", False), (2, "ok", True)]]
            assert approval.responder.in_flight == 3
            late.set_result(b"\xc3")
            await turns()
            assert approval.answers()[1:] == [[(1, "ok", True)]]
            assert approval.responder.in_flight == 0

        run_virtual(scenario)

    def test_one_that_fails_gives_no_answer(self) -> None:
        async def scenario(_: FakeClock) -> None:
            approval = Approval()
            late: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
            approval.replies = [late, b"\xc3"]
            approval.ask(1, 2)
            await turns()
            with capture_logs() as logs:
                late.set_exception(RuntimeError("broken"))
                await turns()
            assert approval.answers() == [[(1, "ok", True)]]
            assert [log["event"] for log in logs] == ["bus_handler_failed"]
            assert approval.responder.in_flight == 0

        run_virtual(scenario)

    def test_each_message_has_its_own_time_under_one_timer(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            approval = Approval()
            loop = asyncio.get_running_loop()
            began = clock.monotonic()
            ended: list[float] = []
            for _ in range(3):
                late: asyncio.Future[Reply] = loop.create_future()
                late.add_done_callback(lambda _late: ended.append(clock.monotonic() - began))
                approval.replies = [late]
                approval.ask(1)
                await asyncio.sleep(1)
            await asyncio.sleep(HANDLE_SECONDS)
            assert ended == pytest.approx([HANDLE_SECONDS, HANDLE_SECONDS + 1, HANDLE_SECONDS + 2])
            assert approval.board.published == []
            assert approval.counts.of[counters.HANDLER_FAILURES,] == 3
            assert approval.responder.in_flight == 0

        run_virtual(scenario)

    def test_a_handler_that_fails_after_calling_back_is_logged_and_its_replies_count(self) -> None:
        async def scenario(_: FakeClock) -> None:
            approval = Approval()

            def handle(questions: list[Question], then: Any) -> None:
                then([question.body for question in questions])
                then([b"\xc0"] * len(questions))
                raise RuntimeError("broken")

            approval.responder._handle = handle
            with capture_logs() as logs:
                approval.ask(1)
                await turns()
            assert approval.answers() == [[(0, "ok", 1)]], "once"
            assert [log["event"] for log in logs] == ["bus_handler_failed"]
            assert approval.responder.in_flight == 0

        run_virtual(scenario)

    def test_a_handler_that_fails_before_it_returns_is_no_harm(self) -> None:
        async def scenario(_: FakeClock) -> None:
            approval = Approval()
            handle, approval.responder._handle = approval.responder._handle, _broken
            approval.ask(1)
            assert approval.counts.of[counters.HANDLER_FAILURES,] == 1
            assert approval.responder.in_flight == 0
            approval.responder._handle = handle
            approval.ask("next")
            await turns()
            assert approval.answers() == [[(0, "ok", ["next", "gateway"])]]

        run_virtual(scenario)


def _broken(_questions: list[Question], _then: object) -> None:
    raise RuntimeError("broken")
