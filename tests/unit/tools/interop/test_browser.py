"""A page's record of what its socket received and of the chat messages that it sent."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import pytest

from tools.interop.facts import Unexpected
from tools.interop.ui.browser import Page

if TYPE_CHECKING:
    from tools.interop.driver import Driver

TEXT = "Is anybody there?"
SECONDS = 0.05


def _page() -> Page:
    return Page(cast("Driver", None), 7)


async def test_a_message_is_returned_once_it_is_answered() -> None:
    page = _page()
    waiting = asyncio.create_task(page.sends(TEXT))
    await asyncio.sleep(0)
    page.hear({"event": "sent", "call": "1", "text": TEXT})
    await asyncio.sleep(0)
    assert not waiting.done()
    page.hear({"event": "answered", "call": "1", "error": None})
    message = await waiting
    assert (message.call, message.error) == ("1", None)


async def test_the_newest_of_two_messages_with_the_same_text_is_returned() -> None:
    page = _page()
    for call in ("1", "2"):
        page.hear({"event": "sent", "call": call, "text": TEXT})
    page.hear({"event": "answered", "call": "2", "error": {"code": "INVALID_REQUEST"}})
    page.hear({"event": "answered", "call": "1", "error": None})
    message = await page.sends(TEXT)
    assert (message.call, message.error) == ("2", {"code": "INVALID_REQUEST"})


async def test_a_message_that_was_not_sent_is_reported() -> None:
    page = _page()
    page.hear({"event": "sent", "call": "1", "text": "another"})
    page.hear({"event": "answered", "call": "1", "error": None})
    with pytest.raises(Unexpected, match="page 7 did not send"):
        await page.sends(TEXT, seconds=SECONDS)


async def test_a_message_that_was_not_answered_is_reported() -> None:
    page = _page()
    page.hear({"event": "sent", "call": "1", "text": TEXT})
    with pytest.raises(Unexpected, match="page 7 got no answer to"):
        await page.sends(TEXT, seconds=SECONDS)


async def test_a_page_is_idle_when_its_agent_is_not_busy() -> None:
    page = _page()
    await page.idle(seconds=SECONDS)
    page.hear({"event": "agent", "busy": True})
    with pytest.raises(Unexpected, match="page 7 still takes its agent to be busy"):
        await page.idle(seconds=SECONDS)
    waiting = asyncio.create_task(page.idle())
    await asyncio.sleep(0)
    page.hear({"event": "agent", "busy": False})
    await waiting
