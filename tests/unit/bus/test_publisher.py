"""Messages are published in order, bounded, in as few round trips as possible."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import ResponseError

from shared.bus import publisher as module
from shared.bus.errors import Unavailable
from shared.bus.publisher import (
    PUBLISH_SECONDS,
    ROUND_BYTES,
    ROUND_MESSAGES,
    UNHEARD_LIMIT,
    WAITING_LIMIT_BYTES,
)
from shared.redis.connection import pack
from tests.support.clock import FakeClock, run_virtual, turns
from tests.unit.bus.publisher_case import Case, published

OWN = "latchkey:events"


def nobody(_result: object) -> None:
    pytest.fail("somebody was told about a message that was given up")


class TestRounds:
    def test_messages_of_a_turn_are_one_write_in_order(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = Case(clock)
            await case.start()
            futures = [case.publish("c", b"%d" % n) for n in range(5)]
            await turns()
            assert case.connection.written == [published("c", *(b"%d" % n for n in range(5)))]
            case.connection.reply(range(5))
            assert await asyncio.gather(*futures) == list(range(5))

        run_virtual(scenario)

    def test_messages_during_a_round_are_the_next_round(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = Case(clock)
            await case.start()
            first = case.publish("c", b"first")
            await turns()
            rest = [case.publish("c", b"%d" % n) for n in range(3)]
            await turns()
            assert case.connection.written == [published("c", b"first")]
            case.connection.reply([1])
            assert await first == 1
            await turns()
            assert case.connection.written[1:] == [published("c", b"0", b"1", b"2")]
            case.connection.reply([7, 8, 9])
            assert await asyncio.gather(*rest) == [7, 8, 9]

        run_virtual(scenario)

    def test_messages_before_the_connection_wait_for_it(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = Case(clock)
            future = case.publish("c", b"early")
            case.publisher.start()
            await turns()
            assert case.connection.written == [published("c", b"early")], "no PING is needed"
            case.connection.reply([1])
            assert await future == 1

        run_virtual(scenario)

    def test_a_round_is_bounded(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = Case(clock)
            await case.start()
            for _n in range(ROUND_MESSAGES + 1):
                case.publish("c", b"")
            assert await case.rounds(2) == [ROUND_MESSAGES, 1]
            for size in (10, ROUND_BYTES, ROUND_BYTES // 2, ROUND_BYTES // 2, 1):
                case.publish("c", bytes(size))
            assert await case.rounds(4) == [1, 1, 2, 1]

        run_virtual(scenario)

    def test_what_its_sender_gave_up_is_not_published(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = Case(clock)
            await case.start()
            case.publisher.send("c", b"given up", nobody).give_up()
            await turns()
            assert case.connection.written == []
            case.publisher.send("c", b"given up", nobody).give_up()
            case.publish("c", b"wanted")
            await turns()
            assert case.connection.written == [published("c", b"wanted")]

        run_virtual(scenario)


class TestBounds:
    def test_messages_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = Case(clock)
            await case.start()
            for _n in range(3):
                case.publish("c", b"")
            with pytest.raises(Unavailable, match="too much"):
                case.publish("c", b"")
            await turns()
            case.publish("c", b"")

        monkeypatch.setattr(module, "MESSAGES_LIMIT", 3)
        run_virtual(scenario)

    def test_bytes_are_bounded(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = Case(clock)
            await case.start()
            case.publish("c", bytes(WAITING_LIMIT_BYTES))
            with pytest.raises(Unavailable) as caught:
                case.publish("c", b"x")
            assert (caught.value.reason, caught.value.dependency) == ("redis", "redis")
            await turns()
            case.publish("c", b"x")

        run_virtual(scenario)


class TestFailures:
    def test_a_round_without_replies_ends_and_the_connection_is_replaced(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = Case(clock)
            await case.start()
            hanging, waiting = case.publish("c", b""), None
            await turns()
            waiting = case.publish("c", b"")
            started = clock.monotonic()
            for future in (hanging, waiting):
                with pytest.raises(Unavailable, match="in time"):
                    await future
            assert clock.monotonic() - started == pytest.approx(PUBLISH_SECONDS)
            assert case.monitor.trouble
            with pytest.raises(Unavailable):
                await case.publish("c", b"too early")
            await asyncio.sleep(1.0)
            assert (len(case.opened), case.opened[0].closed) == (2, True)
            case.connection.reply([b"PONG"])
            await turns()
            assert not case.monitor.trouble
            future = case.publish("c", b"")
            await turns()
            case.connection.reply([1])
            assert await future == 1

        run_virtual(scenario)

    def test_an_unreachable_redis_is_tried_again_with_nothing_to_publish(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = Case(clock)
            case.unreachable = True
            future = case.publish("c", b"")
            case.publisher.start()
            with pytest.raises(Unavailable, match="refused"):
                await future
            await asyncio.sleep(5.0)
            assert case.opened == []
            case.unreachable = False
            await asyncio.sleep(1.1)
            assert case.connection.written == [pack("PING")]

        run_virtual(scenario)

    def test_a_refused_message_fails_and_the_others_count(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = Case(clock)
            await case.start()
            futures = [case.publish("c", b"") for _ in range(2)]
            await turns()
            case.connection.reply([RuntimeError("no permission"), 1])
            await turns()
            with pytest.raises(Unavailable, match="no permission"):
                await futures[0]
            assert await futures[1] == 1
            assert "no permission" in case.monitor.trouble

        run_virtual(scenario)

    def test_an_error_instead_of_the_first_reply_is_no_connection(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = Case(clock)
            case.publisher.start()
            await turns()
            case.connection.reply([ResponseError("BUSY")])
            await turns()
            assert case.connected == 0
            assert "BUSY" in case.monitor.trouble

        run_virtual(scenario)

    def test_a_later_round_without_replies_ends_in_time_too(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = Case(clock)
            await case.start()
            await asyncio.sleep(PUBLISH_SECONDS / 2)
            hanging = case.publish("c", b"")
            began = clock.monotonic()
            with pytest.raises(Unavailable, match="in time"):
                await hanging
            assert clock.monotonic() - began == pytest.approx(PUBLISH_SECONDS)

        run_virtual(scenario)

    def test_a_callback_that_fails_harms_neither_others_nor_the_connection(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = Case(clock)
            await case.start()
            errors: list[object] = []
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _loop, context: errors.append(context["exception"]))

            def fail(_result: object) -> None:
                raise LookupError

            case.publisher.send("c", b"first", fail)
            other = case.publish("c", b"second")
            await turns()
            case.connection.reply([1, 2])
            assert await other == 2
            assert [type(error) for error in errors] == [LookupError]
            assert (len(case.opened), case.monitor.trouble) == (1, "")

        run_virtual(scenario)

    def test_a_connection_lost_while_idle_is_replaced_for_the_next_message(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = Case(clock)
            await case.start()
            case.connection.drop(ConnectionError("idle for too long"))
            await turns()
            assert len(case.opened) == 1
            future = case.publish("c", b"")
            await turns()
            case.connection.reply([1])
            assert await future == 1
            assert (len(case.opened), case.monitor.trouble) == (2, "")

        run_virtual(scenario)


class TestConnectNow:
    """Once Redis was reached over another connection, waiting for the next attempt helps nobody."""

    @staticmethod
    async def paused(clock: FakeClock) -> Case:
        """Return a publisher in a pause, whose Redis has just become reachable."""
        case = Case(clock)
        await case.start()
        case.unreachable = True
        case.connection.drop(ConnectionError("lost"))
        with pytest.raises(Unavailable):
            await case.publish("c", b"")
        await asyncio.sleep(5.0)
        case.unreachable = False
        await turns()
        assert len(case.opened) == 1
        return case

    def test_it_ends_the_pause(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = await self.paused(clock)
            began = clock.monotonic()
            case.publisher.connect_now()
            case.publisher.connect_now()
            await turns()
            assert clock.monotonic() == began
            assert (len(case.opened), case.connection.written) == (2, [pack("PING")])
            assert case.connected == 1, "at the start"
            case.connection.reply([b"PONG"])
            await turns()
            assert (case.connected, case.monitor.trouble) == (2, "")

        run_virtual(scenario)

    def test_what_is_published_then_waits_for_the_connection(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = await self.paused(clock)
            for now in (False, True):  # with a round about to fail it, and without
                if now:
                    case.publisher.connect_now()
                future = case.publish("c", b"")
                if not now:
                    case.publisher.connect_now()
                await turns()
                case.connection.reply([1])
                assert await future == 1
                if not now:
                    case.unreachable = True
                    case.connection.drop(ConnectionError("lost"))
                    case.publish("c", b"").add_done_callback(lambda f: f.exception())
                    await turns()
                    case.unreachable = False
            assert len(case.opened) == 3

        run_virtual(scenario)

    def test_otherwise_it_does_nothing(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = Case(clock)
            case.publisher.connect_now()
            case.publisher.start()
            case.publisher.connect_now()
            await turns()
            case.publisher.connect_now()
            assert len(case.opened) == 1
            began = clock.monotonic()
            await asyncio.sleep(1.5 * PUBLISH_SECONDS)
            assert case.opened[0].error is not None, "a first round without a reply ends as usual"
            assert clock.monotonic() - began == 1.5 * PUBLISH_SECONDS
            await case.publisher.stop()
            opened = len(case.opened)
            case.publisher.connect_now()
            await turns()
            assert len(case.opened) == opened

        run_virtual(scenario)


class TestUnheard:
    def test_own_messages_that_reach_nobody_are_reported(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = Case(clock)
            await case.start()
            for subscribers in (0, 0, 1, *[0] * UNHEARD_LIMIT):
                assert case.unheard == 0
                case.publish(OWN, b"")
                case.publish("c", b"")
                await turns()
                case.connection.reply([subscribers, 0])
                await turns()
            assert case.unheard == 1

        run_virtual(scenario)

    def test_nothing_is_reported_while_the_subscription_is_lost(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = Case(clock)
            await case.start()
            case.subscription.trouble = "lost"
            for _ in range(UNHEARD_LIMIT):
                case.publish(OWN, b"")
                await turns()
                case.connection.reply([0])
                await turns()
            assert case.unheard == 0

        run_virtual(scenario)


class TestStopping:
    def test_what_waits_is_published_and_nothing_more_is_taken(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = Case(clock)
            await case.start()
            futures = [case.publish("c", b"") for _ in range(2)]
            stopping = asyncio.create_task(case.publisher.stop())
            await turns()
            with pytest.raises(Unavailable, match="stopped"):
                case.publish("c", b"more")
            case.connection.reply([1, 1])
            assert await asyncio.gather(*futures) == [1, 1]
            await stopping
            assert case.connection.closed

        run_virtual(scenario)

    def test_what_redis_does_not_confirm_in_time_fails(self) -> None:
        async def scenario(clock: FakeClock) -> None:
            case = Case(clock)
            await case.start()
            sent = case.publish("c", b"")
            await turns()
            waiting = case.publish("c", b"")
            await case.publisher.stop()
            for future in (sent, waiting):
                with pytest.raises(Unavailable):
                    await future
            assert case.connection.closed

        run_virtual(scenario)
