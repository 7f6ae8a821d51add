"""Messages waiting to be published: in order, bounded, in as few round trips as possible."""

from __future__ import annotations

import asyncio

import pytest

from shared.bus import outbox as module
from shared.bus.errors import Unavailable
from shared.bus.outbox import ROUND_BYTES, ROUND_MESSAGES, WAITING_LIMIT_BYTES, Outbox
from tests.support.clock import FakeClock, run_virtual, turns


class TestRounds:
    def test_what_waits_is_taken_together_and_in_order(self) -> None:
        async def scenario(_: FakeClock) -> None:
            outbox = Outbox()
            futures = [outbox.put(f"c{n}", b"%d" % n) for n in range(5)]
            letters = await outbox.take()
            assert [(letter.channel, letter.data) for letter in letters] == [
                (f"c{n}", b"%d" % n) for n in range(5)
            ]
            for n, letter in enumerate(letters):
                letter.done(n)
            assert await asyncio.gather(*futures) == list(range(5))

        run_virtual(scenario)

    def test_taking_waits_until_there_is_something(self) -> None:
        async def scenario(_: FakeClock) -> None:
            outbox = Outbox()
            taking = asyncio.create_task(outbox.take())
            await turns()
            assert not taking.done()
            outbox.put("c", b"")
            assert len(await taking) == 1

        run_virtual(scenario)

    def test_a_round_is_bounded(self) -> None:
        async def scenario(_: FakeClock) -> None:
            outbox = Outbox()
            for _n in range(ROUND_MESSAGES + 1):
                outbox.put("c", b"")
            assert [len(await outbox.take()) for _n in range(2)] == [ROUND_MESSAGES, 1]
            for size in (10, ROUND_BYTES, ROUND_BYTES // 2, ROUND_BYTES // 2, 1):
                outbox.put("c", bytes(size))
            assert [len(await outbox.take()) for _n in range(4)] == [1, 1, 2, 1]

        run_virtual(scenario)

    def test_what_its_sender_gave_up_is_not_published(self) -> None:
        async def scenario(_: FakeClock) -> None:
            outbox = Outbox()
            outbox.put("c", b"given up").cancel()
            taking = asyncio.create_task(outbox.take())
            await turns()
            assert not taking.done()
            outbox.put("c", b"given up").cancel()
            outbox.put("c", b"wanted")
            assert [letter.data for letter in await taking] == [b"wanted"]

        run_virtual(scenario)

    def test_a_letter_has_one_outcome(self) -> None:
        async def scenario(_: FakeClock) -> None:
            outbox = Outbox()
            future = outbox.put("c", b"")
            (letter,) = await outbox.take()
            letter.done(1)
            letter.fail("too late")
            assert await future == 1

        run_virtual(scenario)


class TestBounds:
    def test_messages_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def scenario(_: FakeClock) -> None:
            outbox = Outbox()
            for _n in range(3):
                outbox.put("c", b"")
            with pytest.raises(Unavailable, match="too much"):
                outbox.put("c", b"")
            await outbox.take()
            outbox.put("c", b"")

        monkeypatch.setattr(module, "MESSAGES_LIMIT", 3)
        run_virtual(scenario)

    def test_bytes_are_bounded(self) -> None:
        async def scenario(_: FakeClock) -> None:
            outbox = Outbox()
            outbox.put("c", bytes(WAITING_LIMIT_BYTES))
            with pytest.raises(Unavailable) as caught:
                outbox.put("c", b"x")
            assert (caught.value.reason, caught.value.dependency) == ("redis", "redis")
            await outbox.take()
            outbox.put("c", b"x")

        run_virtual(scenario)


class TestClosing:
    def test_what_waits_can_be_taken_and_then_it_is_over(self) -> None:
        async def scenario(_: FakeClock) -> None:
            outbox = Outbox()
            outbox.put("c", b"last")
            outbox.close("stopped")
            with pytest.raises(Unavailable, match="stopped"):
                outbox.put("c", b"more")
            assert len(await outbox.take()) == 1
            assert await outbox.take() == []

        run_virtual(scenario)

    def test_a_reader_that_waits_learns_of_it(self) -> None:
        async def scenario(_: FakeClock) -> None:
            outbox = Outbox()
            taking = asyncio.create_task(outbox.take())
            await turns()
            outbox.close("stopped")
            assert await taking == []

        run_virtual(scenario)

    def test_what_is_left_can_be_failed(self) -> None:
        async def scenario(_: FakeClock) -> None:
            outbox = Outbox()
            future = outbox.put("c", b"")
            outbox.fail("stopped")
            with pytest.raises(Unavailable, match="stopped"):
                await future

        run_virtual(scenario)
