"""Requests and answers over a real Redis, through every kind of fault."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from shared.bus import counters
from shared.bus.errors import Unavailable
from shared.rpc.requester import DEADLINE_SECONDS
from tests.integration.bus.members import Approval, Gateway, announced
from tools.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tools.support.processes.redis import RedisServer


@asynccontextmanager
async def bus_of(
    server: RedisServer, *, gateways: int, approvals: int
) -> AsyncIterator[tuple[list[Gateway], list[Approval]]]:
    """Run this many of each, and wait until all gateways know all approvals."""
    async with AsyncExitStack() as stack:
        askers = [Gateway(server.gateway_url) for _ in range(gateways)]
        answerers = [Approval(server.approval_url) for _ in range(approvals)]
        for asker in (*askers, *answerers):
            await stack.enter_async_context(asker.running())
        await stack.enter_async_context(announced(*answerers))
        await until(
            lambda: all(len(asker.responders.live()) == approvals for asker in askers),
            "all are heard",
        )
        yield askers, answerers
        for answerer in answerers:
            await answerer.responder.stop()
        for asker in askers:
            asker.requester.stop()


async def outcome(gateway: Gateway, question: object) -> Any:
    """Send a request; any outcome but its own answer or Unavailable in time is an error."""
    started = asyncio.get_running_loop().time()
    try:
        answer = await gateway.ask(question)
    except Unavailable as unavailable:
        return unavailable
    finally:
        assert asyncio.get_running_loop().time() - started < DEADLINE_SECONDS + 0.5
    assert answer[0] == question
    return answer


async def keep_asking(
    gateways: list[Gateway], fault: Callable[[int], None], *, rounds: int
) -> list[Any]:
    """Send requests in rounds, with a fault on the bus in the middle of each."""
    results: list[Any] = []
    for n in range(rounds):
        asking = [
            asyncio.create_task(outcome(gateway, [g, n, k]))
            for g, gateway in enumerate(gateways)
            for k in range(20)
        ]
        await asyncio.sleep(0)
        fault(n)
        results += await asyncio.gather(*asking)
    return results


class TestQuestions:
    async def test_each_gateway_gets_its_own_answers(self, redis_server: RedisServer) -> None:
        async with bus_of(redis_server, gateways=3, approvals=2) as (gateways, approvals):
            results = await keep_asking(gateways, lambda _: None, rounds=10)
            assert not [result for result in results if isinstance(result, Unavailable)]
            assert {who for _, who in results} == {approval.boot_id for approval in approvals}
            for gateway in gateways:
                assert not [key for key in gateway.counts if key[0] == counters.ANSWERS_DROPPED]
                assert gateway.rejected == []
                assert gateway.counts[counters.QUESTIONS_SENT,] == 200

    async def test_an_approval_that_leaves_is_not_missed(self, redis_server: RedisServer) -> None:
        async with bus_of(redis_server, gateways=2, approvals=2) as (gateways, approvals):
            first = approvals[0]
            leaving = asyncio.create_task(first.responder.stop())
            results = await keep_asking(gateways, lambda _: None, rounds=2)
            await leaving
            await first.bus.stop()
            results += await keep_asking(gateways, lambda _: None, rounds=3)
            assert not [result for result in results if isinstance(result, Unavailable)]
            await until(lambda: gateways[0].responders.live() == [approvals[1].boot_id], "gone")

    async def test_a_stuck_approval_still_subscribed_is_passed_over(
        self, redis_server: RedisServer
    ) -> None:
        async with bus_of(redis_server, gateways=2, approvals=2) as (gateways, approvals):
            approvals[0].seconds = 3.0
            results = await keep_asking(gateways, lambda _: None, rounds=4)
            assert {result[1] for result in results} == {approvals[1].boot_id}

    async def test_slow_approvals_leave_a_bounded_number_of_questions_in_flight(
        self, redis_server: RedisServer
    ) -> None:
        async with bus_of(redis_server, gateways=1, approvals=2) as (gateways, approvals):
            for approval in approvals:
                approval.seconds = 3.0
            asking = [asyncio.create_task(outcome(gateways[0], n)) for n in range(1500)]
            await until(lambda: sum(task.done() for task in asking) >= 476, "refused early")
            assert gateways[0].requester.in_flight == 1024
            results = await asyncio.gather(*asking)
            reasons = [result.reason for result in results]
            assert reasons.count("overloaded") == 476
            assert reasons.count("timeout") == 1024
            assert sum(approval.handled for approval in approvals) <= 4 * 1024
            for approval in approvals:
                approval.seconds = 0.0
            assert not isinstance(await outcome(gateways[0], "again"), Unavailable)


class TestFaults:
    async def test_questions_survive_connections_killed_while_asking(
        self, redis_server: RedisServer
    ) -> None:
        def kill(n: int) -> None:
            redis_server.call("CLIENT", "KILL", "TYPE", ("normal", "pubsub")[n % 2])

        async with bus_of(redis_server, gateways=2, approvals=2) as (gateways, _):
            results = await keep_asking(gateways, kill, rounds=8)
            answered = [result for result in results if not isinstance(result, Unavailable)]
            assert len(answered) > len(results) / 2
            await until(lambda: all(gateway.ok for gateway in gateways), "all are back")
            after = await keep_asking(gateways, lambda _: None, rounds=2)
            assert not [result for result in after if isinstance(result, Unavailable)]

    async def test_redis_gone_is_unavailable_and_names_redis(
        self, redis_server: RedisServer
    ) -> None:
        async with bus_of(redis_server, gateways=2, approvals=1) as (gateways, _):
            redis_server.kill9()
            results = await keep_asking(gateways, lambda _: None, rounds=1)
            assert {(r.reason, r.dependency) for r in results} == {("redis", "redis")}
            redis_server.start()
            await until(
                lambda: all(gateway.ok and gateway.responders.live() for gateway in gateways),
                "back",
            )
            results = await keep_asking(gateways, lambda _: None, rounds=2)
            assert not [result for result in results if isinstance(result, Unavailable)]

    async def test_no_approval_is_unavailable_and_names_approval(
        self, redis_server: RedisServer
    ) -> None:
        async with bus_of(redis_server, gateways=1, approvals=0) as (gateways, _):
            await until(lambda: gateways[0].ok, "subscribed")
            result = await outcome(gateways[0], 1)
            assert (result.reason, result.dependency) == ("no-responder", "approval")

    async def test_questions_are_answered_again_after_redis_hangs(
        self, redis_server: RedisServer
    ) -> None:
        async with bus_of(redis_server, gateways=1, approvals=1) as (gateways, _):
            redis_server.pause()
            results = await keep_asking(gateways, lambda _: None, rounds=1)
            assert {result.dependency for result in results} == {"redis"}
            redis_server.resume()
            await until(lambda: gateways[0].ok and gateways[0].responders.live(), "back")
            results = await keep_asking(gateways, lambda _: None, rounds=2)
            assert not [result for result in results if isinstance(result, Unavailable)]
