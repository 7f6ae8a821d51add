from __future__ import annotations

import asyncio

import pytest

from shared.device.mailbox import Mailbox


class EndedError(Exception):
    pass


async def test_items_come_in_their_order() -> None:
    mailbox: Mailbox[int] = Mailbox(3)
    for item in (1, 2, 3):
        mailbox.put(item)
    assert [await mailbox.get() for _ in range(3)] == [1, 2, 3]


async def test_a_waiter_is_woken() -> None:
    mailbox: Mailbox[int] = Mailbox(3)
    waiting = [asyncio.create_task(mailbox.get()) for _ in range(2)]
    await asyncio.sleep(0)
    mailbox.put(1)
    mailbox.put(2)
    assert sorted(await asyncio.gather(*waiting)) == [1, 2]


async def test_the_oldest_goes_when_it_is_full() -> None:
    mailbox: Mailbox[int] = Mailbox(2)
    for item in (1, 2, 3):
        mailbox.put(item)
    assert [await mailbox.get(), await mailbox.get()] == [2, 3]
    assert mailbox.dropped == 1


async def test_after_the_end_what_came_before_is_still_there() -> None:
    mailbox: Mailbox[int] = Mailbox(2)
    mailbox.put(1)
    mailbox.end(EndedError())
    assert await mailbox.get() == 1
    for _ in range(2):
        with pytest.raises(EndedError):
            await mailbox.get()


async def test_the_end_wakes_all_waiters() -> None:
    mailbox: Mailbox[int] = Mailbox(2)
    waiting = [asyncio.create_task(mailbox.get()) for _ in range(3)]
    await asyncio.sleep(0)
    mailbox.end(EndedError())
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(result, EndedError) for result in results)


async def test_a_cancelled_caller_takes_nothing() -> None:
    mailbox: Mailbox[int] = Mailbox(2)
    waiting = asyncio.create_task(mailbox.get())
    await asyncio.sleep(0)
    mailbox.put(1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await mailbox.get() == 1
