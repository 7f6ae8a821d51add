"""Answering: one handler call per message, bounded, and no answer rather than a wrong one."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from shared.bus import counters
from shared.bus.channels import ask_channel, inbox_channel
from shared.bus.envelope import VERSION, Envelope, Opened
from shared.bus.errors import Unavailable
from shared.bus.responder import (
    BUSY,
    HANDLE_SECONDS,
    QUESTIONS_IN_FLIGHT_LIMIT,
    Question,
    Reply,
    Responder,
)
from shared.bus.wire import (
    BODY_LIMIT_BYTES,
    QUESTIONS_PER_MESSAGE,
    Item,
    ItemAnswer,
    Questions,
    decode_answers,
    encode,
)
from tests.support.clock import FakeClock, run_virtual, turns
from tests.unit.bus.switchboard import SECRET, Counts, Switchboard

if TYPE_CHECKING:
    from collections.abc import Sequence


class Approval:
    """A responder whose handler does what a test says, and the inboxes of its askers."""

    def __init__(self, **settings: float) -> None:
        self.board = Switchboard()
        self.counts = Counts()
        self.envelope = Envelope([SECRET], "approval")
        self.handled: list[list[Question]] = []
        self.replies: Sequence[Reply] | Exception | None = None
        self.gate: asyncio.Event | None = None
        self.inboxes: dict[str, list[list[ItemAnswer]]] = defaultdict(list)
        self.responder = Responder(
            self.board.publish,
            self.envelope,
            self.handle,
            count=self.counts,
            **settings,  # type: ignore[arg-type]  # the numbers among the settings
        )
        self._gateways: dict[str, Envelope] = {}

    async def handle(self, questions: list[Question]) -> Sequence[Reply]:
        self.handled.append(questions)
        if self.gate:
            await self.gate.wait()
        if isinstance(self.replies, Exception):
            raise self.replies
        if self.replies is not None:
            return self.replies
        return [encode([msgspec.msgpack.decode(q.body), q.sender]) for q in questions]

    def ask(self, *bodies: object, gateway: str = "gateway") -> None:
        items = [Item(n, msgspec.Raw(encode(body))) for n, body in enumerate(bodies)]
        self.take(encode(Questions(items)), gateway)

    def take(self, body: bytes, gateway: str = "gateway") -> None:
        if gateway not in self._gateways:
            self._gateways[gateway] = Envelope([SECRET], gateway)
            self.board.listen(inbox_channel(gateway), lambda data: self._receive(gateway, data))
        channel = ask_channel("approval")
        sealed = self._gateways[gateway].seal(channel, body)
        self.responder.deliver(self.envelope.open(channel, sealed))

    def _receive(self, gateway: str, data: bytes) -> None:
        message: Opened = self._gateways[gateway].open(inbox_channel(gateway), data)
        self.inboxes[gateway].append(decode_answers(message.body).items)

    def answers(self, gateway: str = "gateway") -> list[list[tuple[int, str, object]]]:
        return [
            [(a.id, a.status, msgspec.msgpack.decode(a.body)) for a in message]
            for message in self.inboxes[gateway]
        ]


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

    def test_no_more_in_a_message_than_its_limits(self) -> None:
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

            def full(_channel: str, _data: bytes) -> asyncio.Future[int]:
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
    def test_a_gateway_of_the_release_before_is_answered(self) -> None:
        async def scenario(_: FakeClock) -> None:
            approval = Approval()
            approval.ask("first")
            approval._gateways["gateway"]._version = bytes((VERSION - 1,))
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

    def test_one_that_never_ends_is_ended(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            approval = Approval()
            approval.gate = asyncio.Event()
            started = clock.monotonic()
            approval.ask(1)
            await turns()
            await asyncio.wait(approval.responder._tasks)
            assert clock.monotonic() - started == pytest.approx(HANDLE_SECONDS)
            assert approval.board.published == []
            assert approval.counts.of[counters.HANDLER_FAILURES,] == 1

        run_virtual(scenario)


class TestBounds:
    def test_attack_36_a_message_over_the_limit_is_busy_at_once_as_a_whole(self) -> None:
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

    def test_the_limit_leaves_room_for_several_gateways(self) -> None:
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
    def test_attack_31_bombs_and_nonsense_are_dropped_and_counted(self, body: bytes) -> None:
        async def scenario(_: FakeClock) -> None:
            approval = Approval()
            approval.take(body)
            approval.ask("next")
            await turns()
            assert approval.counts.of[counters.QUESTIONS_DROPPED, "malformed"] == 1
            assert len(approval.handled) == 1

        run_virtual(scenario)

    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=200))
    def test_attack_31_no_body_whatever_makes_the_responder_raise(self, body: bytes) -> None:
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
    def test_what_is_under_way_is_answered_and_newcomers_are_told_to_ask_another(self) -> None:
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
            assert clock.monotonic() - started < 3.0
            for future in approval.responder._leaving:
                future.cancel()
            await turns()
            assert approval.counts.of[counters.ANSWERS_LOST, "redis"] == 1

        run_virtual(scenario)
