"""Which responder is asked when another is away, slow or busy, or when Redis fails."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shared.bus import counters
from shared.bus.errors import Unavailable
from shared.rpc.codec import Item, ItemAnswer
from shared.rpc.requester import DEADLINE_SECONDS, TRY_SECONDS
from shared.rpc.responder_pool import HEARD_SECONDS
from shared.rpc.retry import PAUSE_SECONDS, REDIS_FAILURES_LIMIT
from tests.support.clock import FakeClock, outcome, run_virtual
from tests.unit.rpc.fake_bus import Approval, Gateway, reasons


class TestWhereNobodyListens:
    def test_the_next_is_asked_at_once(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock, approvals=1)
            for name in ("dead-1", "dead-2"):
                gateway.responders.seen(name)
            started = clock.monotonic()
            answers = await asyncio.gather(*(gateway.ask(n) for n in range(3)))
            assert {who for _, who in answers} == {"approval-0"}
            assert await gateway.ask(1) == [1, "approval-0"]
            assert clock.monotonic() == started
            assert gateway.responders.live() == ["approval-0"]

        run_virtual(scenario)

    def test_without_a_known_responder_it_fails_at_once(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock, approvals=0)
            started = clock.monotonic()
            assert reasons([await outcome(gateway.ask(1))]) == {("no-responder", "approval"): 1}
            assert clock.monotonic() == started
            assert gateway.questions_published() == []
            assert gateway.counts.of[counters.QUESTIONS_FAILED, "no-responder"] == 1

        run_virtual(scenario)

    def test_a_recently_seen_responder_is_awaited_and_asked_again(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock, approvals=0)
            away = Approval(gateway.board, "away")
            gateway.responders.seen("away")
            started = clock.monotonic()
            tasks = [asyncio.create_task(gateway.ask(n)) for n in range(3)]
            await asyncio.sleep(0.4)
            tasks.append(asyncio.create_task(gateway.ask(3)))
            await asyncio.sleep(0.4)
            away.join()
            gateway.responders.seen("away")
            answers = await asyncio.gather(*tasks)
            assert answers == [[n, "away"] for n in range(4)]
            assert clock.monotonic() - started < 1.0

        run_virtual(scenario)

    def test_a_new_responder_is_asked_instead(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock, approvals=0)
            gateway.responders.seen("replaced")
            asking = asyncio.create_task(gateway.ask(1))
            await asyncio.sleep(1.2)
            Approval(gateway.board, "new").join()
            gateway.responders.seen("new")
            assert await asking == [1, "new"]

        run_virtual(scenario)

    def test_a_responder_is_awaited_until_the_deadline_or_until_it_is_forgotten(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock, approvals=0)
            gateway.responders.seen("dead")
            started = clock.monotonic()
            assert reasons([await outcome(gateway.ask(1))]) == {("no-responder", "approval"): 1}
            assert clock.monotonic() - started == pytest.approx(DEADLINE_SECONDS)
            assert reasons([await outcome(gateway.ask(1))]) == {("no-responder", "approval"): 1}
            assert clock.monotonic() - started == pytest.approx(HEARD_SECONDS, abs=0.2)
            started = clock.monotonic()
            assert reasons([await outcome(gateway.ask(1))]) == {("no-responder", "approval"): 1}
            assert clock.monotonic() == started
            assert len(gateway.questions_published()) == 1

        run_virtual(scenario)

    def test_if_redis_is_away_redis_is_named(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock, approvals=0)
            gateway.redis_ok = False
            assert reasons([await outcome(gateway.ask(1))]) == {("redis", "redis"): 1}

        run_virtual(scenario)


class TestSlowResponders:
    def test_after_a_try_the_next_is_asked_and_the_slow_one_goes_to_the_end(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock, approvals=3)
            stuck = gateway.approvals[0]
            stuck.manner = stuck.silent
            started = clock.monotonic()
            answers = await asyncio.gather(*(gateway.ask(n) for n in range(9)))
            assert [n for n, _ in answers] == list(range(9))
            assert {who for _, who in answers} == {"approval-1"}
            assert clock.monotonic() - started == pytest.approx(TRY_SECONDS)
            for n in range(6):
                assert (await gateway.ask(n))[1] != "approval-0"
            assert clock.monotonic() - started == pytest.approx(TRY_SECONDS)
            assert gateway.counts.of[counters.TRIES_FAILED, "timeout"] == 1

        run_virtual(scenario)

    def test_a_question_never_takes_longer_than_the_deadline(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock, approvals=10)
            gateway.hear_all()
            for approval in gateway.approvals:
                approval.manner = approval.silent
            started = clock.monotonic()
            results = await asyncio.gather(*(outcome(gateway.ask(n)) for n in range(9)))
            assert reasons(results) == {("timeout", "approval"): 9}
            assert clock.monotonic() - started == pytest.approx(DEADLINE_SECONDS)
            tries = int(DEADLINE_SECONDS / TRY_SECONDS)
            assert len(gateway.questions_published()) == tries
            assert gateway.requester.in_flight == 0

        run_virtual(scenario)

    def test_a_single_one_is_asked_once_more_and_then_waited_for(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock)
            gateway.hear_all()
            gateway.approvals[0].slow(1.4)
            started = clock.monotonic()
            assert await gateway.ask(1) == [1, "approval-0"]
            assert clock.monotonic() - started == pytest.approx(1.4)
            assert len(gateway.questions_published()) == 2
            await asyncio.sleep(5)
            assert gateway.counts.of[counters.ANSWERS_DROPPED, "late"] == 1

        run_virtual(scenario)

    def test_the_second_try_recovers_a_lost_message(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock)
            gateway.hear_all()
            approval = gateway.approvals[0]
            approval.manner = approval.silent
            asking = asyncio.create_task(gateway.ask(1))
            await asyncio.sleep(0.1)
            approval.manner = approval.answer
            started = clock.monotonic()
            assert await asking == [1, "approval-0"]
            assert clock.monotonic() - started == pytest.approx(TRY_SECONDS - 0.1)

        run_virtual(scenario)

    def test_a_late_answer_of_the_first_counts_while_the_second_is_asked(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock, approvals=2)
            gateway.approvals[0].slow(0.7)
            gateway.approvals[1].slow(0.4)
            started = clock.monotonic()
            assert await gateway.ask(1) == [1, "approval-0"]
            assert clock.monotonic() - started == pytest.approx(0.7)
            assert {gateway.responders.choose(), gateway.responders.choose()} == {
                "approval-0",
                "approval-1",
            }
            await asyncio.sleep(1)
            assert gateway.counts.of[counters.ANSWERS_DROPPED, "late"] == 1

        run_virtual(scenario)

    def test_only_what_is_still_open_is_asked_again(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock, approvals=2)
            first, second = gateway.approvals

            def half(sender: str, items: list[Item]) -> None:
                first.answer(sender, items[::2])

            first.manner = half
            answers = await asyncio.gather(*(gateway.ask(n) for n in range(6)))
            assert [who for _, who in answers] == ["approval-0", "approval-1"] * 3
            assert [len(items) for items in second.asked] == [3]

        run_virtual(scenario)


class TestBusyResponders:
    def test_another_is_asked_at_once(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock, approvals=2)
            gateway.approvals[0].manner = gateway.approvals[0].busy
            started = clock.monotonic()
            answers = await asyncio.gather(*(gateway.ask(n) for n in range(3)))
            assert {who for _, who in answers} == {"approval-1"}
            assert clock.monotonic() == started
            assert gateway.counts.of[counters.TRIES_FAILED, "busy"] == 1

        run_virtual(scenario)

    def test_if_all_are_busy_it_is_overloaded_at_once(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock, approvals=3)
            for approval in gateway.approvals:
                approval.manner = approval.busy
            started = clock.monotonic()
            results = await asyncio.gather(*(outcome(gateway.ask(n)) for n in range(4)))
            assert reasons(results) == {("overloaded", "approval"): 4}
            assert clock.monotonic() == started
            assert [len(approval.asked) for approval in gateway.approvals] == [1, 1, 1]

        run_virtual(scenario)

    def test_only_the_refused_part_of_a_batch_moves_on(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock, approvals=2)
            first = gateway.approvals[0]

            def partly(sender: str, items: list[Item]) -> None:
                first.answer(sender, items[:2])
                first.busy(sender, items[2:4])

            first.manner = partly
            gateway.approvals[1].manner = gateway.approvals[1].answer
            started = clock.monotonic()
            answers = await asyncio.gather(*(gateway.ask(n) for n in range(5)))
            who = [name for _, name in answers]
            assert who == ["approval-0"] * 2 + ["approval-1"] * 3
            assert [len(items) for items in gateway.approvals[1].asked] == [2, 1]
            assert clock.monotonic() - started == pytest.approx(TRY_SECONDS)

        run_virtual(scenario)

    def test_a_confused_one_that_says_busy_twice_or_answers_as_well_does_no_harm(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock, approvals=2)
            first = gateway.approvals[0]

            def confused(sender: str, items: list[Item]) -> None:
                busy = [ItemAnswer(i.id, "busy") for i in items]
                good = [ItemAnswer(items[0].id, "ok", first.text_of(items[0]))]
                first.reply(sender, busy + busy + good)

            first.manner = confused
            answers = await asyncio.gather(*(gateway.ask(n) for n in range(3)))
            assert [who for _, who in answers] == ["approval-0", "approval-1", "approval-1"]
            assert gateway.requester.in_flight == 0

        run_virtual(scenario)

    def test_a_status_of_a_later_release_is_no_answer(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock, approvals=2)
            first = gateway.approvals[0]
            first.manner = lambda sender, items: first.reply(
                sender, [ItemAnswer(i.id, "perhaps") for i in items]
            )
            assert await gateway.ask(1) == [1, "approval-1"]

        run_virtual(scenario)


class TestRedisFails:
    def test_a_short_failure_is_ridden_out(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock)
            gateway.board.redis_down = True
            asking = asyncio.gather(*(gateway.ask(n) for n in range(3)))
            await asyncio.sleep(PAUSE_SECONDS * 1.5)
            gateway.board.redis_down = False
            assert await asking == [[n, "approval-0"] for n in range(3)]

        run_virtual(scenario)

    def test_a_longer_one_ends_soon_and_names_redis(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock, approvals=2)
            gateway.board.redis_down = True
            started = clock.monotonic()
            results = await asyncio.gather(*(outcome(gateway.ask(n)) for n in range(3)))
            assert reasons(results) == {("redis", "redis"): 3}
            assert clock.monotonic() - started < DEADLINE_SECONDS / 2
            assert len(gateway.questions_published()) == REDIS_FAILURES_LIMIT
            assert gateway.counts.of[counters.TRIES_FAILED, "redis"] == REDIS_FAILURES_LIMIT
            assert gateway.responders.live() != []

        run_virtual(scenario)

    def test_a_redis_that_hangs_names_redis_by_the_deadline(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock, approvals=2)
            gateway.hear_all()
            gateway.board.redis_hangs = True
            started = clock.monotonic()
            results = await asyncio.gather(*(outcome(gateway.ask(n)) for n in range(3)))
            assert reasons(results) == {("redis", "redis"): 3}
            assert clock.monotonic() - started <= DEADLINE_SECONDS + 0.001

        run_virtual(scenario)

    def test_an_error_before_publishing_names_redis(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock)

            def full(channel: str, data: bytes, then: object) -> Any:
                raise Unavailable("redis", detail="too much waits")

            gateway.requester._publish = full
            assert reasons([await outcome(gateway.ask(1))]) == {("redis", "redis"): 1}

        run_virtual(scenario)

    def test_if_it_fails_after_an_attempt_arrived_the_answer_is_still_awaited(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            gateway = Gateway(clock)
            gateway.hear_all()
            gateway.approvals[0].slow(1.8)
            asking = asyncio.create_task(gateway.ask(1))
            await asyncio.sleep(0.1)
            gateway.board.redis_down = True
            await asyncio.sleep(1.5)
            gateway.board.redis_down = False
            assert await asking == [1, "approval-0"]

        run_virtual(scenario)
