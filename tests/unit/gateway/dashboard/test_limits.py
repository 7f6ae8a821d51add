from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from services.gateway.dashboard.limits import ResponseLimiter
from tests.support.clock import turns
from tools.support.waiting import until

SOON = 0.01


class TestRoom:
    async def test_one_address_takes_its_share_and_no_more(self) -> None:
        room = ResponseLimiter(limit=3, limit_per_address=2, turn_seconds=SOON)
        async with room.place("a"), room.place("a"):
            with pytest.raises(TimeoutError):
                await room.place("a").__aenter__()
            async with room.place("b"):
                assert room.asked_for == 3

    async def test_all_together_take_no_more_than_there_is(self) -> None:
        room = ResponseLimiter(limit=2, limit_per_address=2, turn_seconds=SOON)
        async with room.place("a"), room.place("b"):
            with pytest.raises(TimeoutError):
                await room.place("c").__aenter__()
        assert room.asked_for == 0

    async def test_a_waiting_request_is_next(self) -> None:
        room = ResponseLimiter(limit=1, limit_per_address=1)
        let_go = asyncio.Event()
        received: list[str] = []

        async def visit(name: str) -> None:
            async with room.place("a"):
                received.append(name)
                await let_go.wait()

        visits = [asyncio.create_task(visit(name)) for name in ("first", "second")]
        await turns(5)
        assert received == ["first"]
        let_go.set()
        await asyncio.gather(*visits)
        assert received == ["first", "second"]

    async def test_a_granted_slot_has_no_deadline(self) -> None:
        room = ResponseLimiter(limit=1, limit_per_address=1, turn_seconds=SOON)
        async with room.place("a"):
            other = asyncio.create_task(room.place("a").__aenter__())
            await until(other.done, "the other waited in vain")
            assert isinstance(other.exception(), TimeoutError)
            assert room.asked_for == 1

    async def test_nothing_is_kept_of_clients_that_left(self) -> None:
        room = ResponseLimiter()
        async with AsyncExitStack() as stack:
            for number in range(10):
                await stack.enter_async_context(room.place(str(number)))
        assert room._by_address == {}
        assert room._there == {}
