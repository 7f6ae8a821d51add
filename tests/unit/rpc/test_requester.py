"""Requester: how requests travel, how many, and what happens to those whose caller left."""

from __future__ import annotations

import asyncio

import pytest

from shared.bus import counters
from shared.bus.envelope import VERSION, Envelope
from shared.bus.errors import Rejected, Unavailable
from shared.rpc.codec import BATCH_LIMIT_BYTES, BODY_LIMIT_BYTES, QUESTIONS_PER_MESSAGE, encode
from shared.rpc.requester import DEADLINE_SECONDS, QUESTIONS_IN_FLIGHT_LIMIT, TRY_SECONDS
from tests.support.clock import FakeClock, outcome, run_virtual, turns
from tests.unit.rpc.fake_bus import SECRET, Approval, Gateway, reasons


class TestQuestionsOfOneTurnTravelTogether:
    def test_questions_of_one_turn_share_a_message(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock)
            answers = await asyncio.gather(*(gateway.ask(n) for n in range(64)))
            assert answers == [[n, "approval-0"] for n in range(64)]
            assert len(gateway.questions_published()) == 1
            assert await gateway.ask("later") == ["later", "approval-0"]
            assert len(gateway.questions_published()) == 2
            assert gateway.requester.in_flight == 0

        run_virtual(scenario)

    def test_one_batch_goes_to_one_responder_and_the_next_to_the_next(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock, approvals=3)
            who = []
            for _ in range(6):
                answers = await asyncio.gather(*(gateway.ask(n) for n in range(5)))
                assert len({answered[1] for answered in answers}) == 1
                who.append(answers[0][1])
            assert who == [f"approval-{n}" for n in (0, 1, 2, 0, 1, 2)]

        run_virtual(scenario)

    def test_a_message_holds_no_more_than_its_limit(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock)
            await asyncio.gather(*(gateway.ask(n) for n in range(2 * QUESTIONS_PER_MESSAGE + 1)))
            sizes = [len(items) for items in gateway.approvals[0].asked]
            assert sizes == [QUESTIONS_PER_MESSAGE, QUESTIONS_PER_MESSAGE, 1]

        run_virtual(scenario)

    def test_a_message_is_limited_in_bytes(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock)
            gateway.approvals[0].manner = gateway.approvals[0].busy
            large = "x" * (BATCH_LIMIT_BYTES // 3)
            asking = [gateway.ask(large) for _ in range(5)]
            asking.append(gateway.ask("x" * (2 * BATCH_LIMIT_BYTES)))
            await asyncio.gather(*map(outcome, asking))
            assert [len(items) for items in gateway.approvals[0].asked] == [2, 2, 1, 1]

        run_virtual(scenario)

    def test_a_question_too_large_for_any_message_is_refused(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock)
            fits = encode(b"x" * (BODY_LIMIT_BYTES - 5))
            with pytest.raises(Rejected, match="oversized"):
                await gateway.requester.ask(fits + b"\0")
            gateway.approvals[0].manner = gateway.approvals[0].busy
            assert reasons([await outcome(gateway.requester.ask(fits))])

        run_virtual(scenario)

    def test_there_is_neither_a_task_nor_a_timer_for_a_question(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock)
            gateway.approvals[0].slow(0.1)
            futures = [gateway.requester.submit(encode(n)) for n in range(200)]
            await turns()
            loop = asyncio.get_running_loop()
            timers = [t for t in loop._scheduled if not t.cancelled()]  # type: ignore[attr-defined]
            assert len(timers) == 2  # that of all attempts, and the slow approval's
            assert len(asyncio.all_tasks()) == 1
            await asyncio.gather(*futures)
            for _ in range(3):
                await gateway.ask("one more")
                timers = [t for t in loop._scheduled if not t.cancelled()]  # type: ignore[attr-defined]
                assert len(timers) == 1, "still the same"
            await asyncio.sleep(TRY_SECONDS)
            assert not [t for t in loop._scheduled if not t.cancelled()]  # type: ignore[attr-defined]

        run_virtual(scenario)


class TestSlowApprovals:
    def test_questions_in_flight_are_bounded_and_the_rest_is_refused_early(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock)
            gateway.hear_all()
            gateway.approvals[0].slow(3.0)
            started = clock.monotonic()
            tasks = [
                asyncio.create_task(outcome(gateway.ask(n)))
                for n in range(QUESTIONS_IN_FLIGHT_LIMIT + 500)
            ]
            await turns()
            early = [task.result() for task in tasks if task.done()]
            assert reasons(early) == {("overloaded", "approval"): 500}
            assert clock.monotonic() == started
            assert gateway.requester.in_flight == QUESTIONS_IN_FLIGHT_LIMIT
            late = await asyncio.gather(*tasks)
            assert reasons(late)["timeout", "approval"] == QUESTIONS_IN_FLIGHT_LIMIT
            assert gateway.requester.in_flight == 0
            asked = sum(len(items) for items in gateway.approvals[0].asked)
            assert asked <= 2 * QUESTIONS_IN_FLIGHT_LIMIT

        run_virtual(scenario)

    def test_once_it_is_quick_again_it_takes_new_ones(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock, in_flight_limit=4)
            gateway.approvals[0].slow(0.2)
            tasks = [asyncio.create_task(outcome(gateway.ask(n))) for n in range(5)]
            results = await asyncio.gather(*tasks)
            assert [isinstance(result, Unavailable) for result in results] == [False] * 4 + [True]
            assert await gateway.ask("more") == ["more", "approval-0"]

        run_virtual(scenario)


class TestCancelledCallers:
    def test_before_it_was_sent_the_question_is_not_sent(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock)
            tasks = [asyncio.create_task(gateway.ask(n)) for n in range(2)]
            await asyncio.sleep(0)
            tasks[0].cancel()
            assert await tasks[1] == [1, "approval-0"]
            assert [len(items) for items in gateway.approvals[0].asked] == [1]
            assert gateway.requester.in_flight == 0

        run_virtual(scenario)

    def test_its_slot_is_free_at_once_and_its_answer_is_late(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock, in_flight_limit=1)
            gateway.approvals[0].slow(0.1)
            asking = asyncio.create_task(gateway.ask(1))
            await turns()
            asking.cancel()
            await turns()
            assert gateway.requester.in_flight == 0
            assert await gateway.ask(2) == [2, "approval-0"]
            assert gateway.counts.of[counters.ANSWERS_DROPPED, "late"] == 1

        run_virtual(scenario)

    def test_no_other_responder_is_bothered_with_it(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock, approvals=2)
            gateway.approvals[0].manner = gateway.approvals[0].silent
            tasks = [asyncio.create_task(gateway.ask(n)) for n in range(3)]
            submitted = gateway.requester.submit(encode("submitted"))
            await asyncio.sleep(0.1)
            tasks[0].cancel()
            submitted.cancel()
            await asyncio.gather(*tasks[1:])
            assert [len(items) for items in gateway.approvals[1].asked] == [2]
            assert gateway.requester.in_flight == 0

        run_virtual(scenario)

    def test_if_all_give_up_nothing_is_left_of_the_batch(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock, approvals=2)
            gateway.approvals[0].manner = gateway.approvals[0].silent
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(gateway.ask(n)) for n in range(3)]
                await asyncio.sleep(0.1)
                for task in tasks:
                    task.cancel()
            await asyncio.sleep(5)
            assert gateway.approvals[1].asked == []
            assert gateway.counts.of[counters.TRIES_FAILED, "timeout"] == 0

        run_virtual(scenario)

    def test_what_redis_has_not_confirmed_is_awaited_no_longer(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock)
            gateway.board.redis_hangs = True
            asking = asyncio.create_task(gateway.ask(1))
            await turns()
            asking.cancel()
            await turns()
            gateway.board.redis_hangs = False
            began = clock.monotonic()
            assert await gateway.ask(2) == [2, "approval-0"]
            assert clock.monotonic() == began

        run_virtual(scenario)


class TestStop:
    def test_everything_open_fails_at_once_and_nothing_new_is_taken(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock)
            gateway.approvals[0].manner = gateway.approvals[0].silent
            started = clock.monotonic()
            tasks = [asyncio.create_task(outcome(gateway.ask(n))) for n in range(3)]
            await turns()
            given_up = asyncio.create_task(outcome(gateway.ask(4)))
            await asyncio.sleep(0)
            given_up.cancel()
            unsent = [gateway.requester.submit(encode(n)) for n in range(2)]
            gateway.requester.stop()
            results = await asyncio.gather(*tasks, *map(outcome, unsent))
            assert reasons(results) == {("no-responder", "approval"): 5}
            assert isinstance(await outcome(gateway.ask(1)), Unavailable)
            assert clock.monotonic() == started
            assert gateway.requester.in_flight == 0
            await asyncio.sleep(5)
            assert len(gateway.questions_published()) == 1

        run_virtual(scenario)


class TestRollingDeployment:
    def test_an_approval_that_writes_the_next_version_answers_us(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock)
            gateway.envelope._readable = both = {VERSION, VERSION + 1}
            newer = gateway.approvals[0]
            newer.envelope = Envelope([SECRET], newer.boot_id, VERSION + 1, both)
            assert await gateway.ask(1) == [1, newer.boot_id]
            assert gateway.opened[0].version == VERSION + 1

        run_virtual(scenario)

    def test_approvals_that_have_gone_are_passed_over(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock, approvals=0)
            for n in range(20):
                gateway.responders.seen(f"old-{n}")
            Approval(gateway.board, "new").join()
            gateway.responders.seen("new")
            assert await gateway.ask(1) == [1, "new"]

        run_virtual(scenario)


class TestLate:
    def test_a_question_whose_time_is_over_before_it_is_sent_is_not_sent(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock, approvals=1)
            future = gateway.requester.submit(encode(1))
            clock.advance(DEADLINE_SECONDS)
            gateway.responders.seen("approval-0")
            assert reasons([await outcome(future)]) == {("no-responder", "approval"): 1}
            assert gateway.questions_published() == []

        run_virtual(scenario)


class TestErrors:
    def test_a_callback_that_fails_does_not_stop_other_answers(self) -> None:
        async def scenario(clock: FakeClock) -> tuple[list[object], list[object]]:
            gateway = Gateway(clock)
            errors: list[object] = []
            answers: list[object] = []
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _loop, context: errors.append(context["exception"]))

            def fail(_answer: object) -> None:
                raise LookupError

            gateway.requester.request(encode(1), fail)
            gateway.requester.request(encode(2), answers.append)
            await turns()
            return errors, answers

        errors, answers = run_virtual(scenario)
        assert [type(error) for error in errors] == [LookupError]
        assert len(answers) == 1

    def test_an_error_after_a_failed_try_stops_no_later_question(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def scenario(clock: FakeClock) -> list[object]:
            gateway = Gateway(clock)
            errors: list[object] = []
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _loop, context: errors.append(context["exception"]))

            def broken(_boot_id: str) -> None:
                raise ZeroDivisionError

            gateway.responders.seen("unreachable")
            gateway.responders.choose()  # so that it is the next one
            with monkeypatch.context() as patch:
                patch.setattr(gateway.responders, "no_responders", broken)
                first = asyncio.create_task(gateway.ask("first"))
                await turns(2)
                second = asyncio.create_task(gateway.ask("second"))
                await turns()
            assert second.result() == ["second", "approval-0"]
            assert await gateway.ask("third")
            assert await first == ["first", "approval-0"], "after the time of its first try"
            return errors

        assert [type(error) for error in run_virtual(scenario)] == [ZeroDivisionError]
