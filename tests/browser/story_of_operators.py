"""Several operators, outages, expired sessions and hostile device names."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import aiohttp
import pytest
from playwright.async_api import expect

from services.approval.access.sessions import COOKIE
from shared.device.profile import CLI
from tests.browser.screens import PHONE, SEE_MS, screen
from tools.support.people import Operator, Visitor
from tools.support.waiting import POLL_SECONDS, WAIT_SECONDS

if TYPE_CHECKING:
    from playwright.async_api import Browser

    from tools.support.stack import Stack

HOSTILE = "<img src=x onerror=document.title='owned'> \u202egnp.exe \x1b[31mred\x1b[0m\nsecond line"


async def test_two_operators_at_two_replicas(browser: Browser, stack: Stack) -> None:
    """Each sees the other's decisions without reloading, and no approval counts twice."""
    visitor = Visitor(stack, replace(CLI, display_name="Shared tablet"))
    east, west = stack.approvals
    async with screen(browser, stack, east) as one, screen(browser, stack, west) as other:
        await one.come_in()
        await other.come_in()
        request_id = await visitor.waits(stack.gateways[0])
        await expect(other.request(request_id)).to_be_visible(timeout=SEE_MS)
        await one.request(request_id).get_by_role("button", name="Approve").click()
        await one.sees(one.request(request_id), "Approved.")
        await other.sees(other.request(request_id), "Approved.")
        await expect(other.request(request_id).get_by_role("button", name="Approve")).to_have_count(
            0
        )
        client, _ = await visitor.stays(stack.gateways[1])
        async with client:
            for each in (one, other):
                await each.sees(each.request(request_id), "after approval.")
                await each.sees(each.device(visitor.device_id), "Online at")
        for each in (one, other):
            await each.sees(each.device(visitor.device_id), "Offline")
    async with Operator(stack, east) as operator:
        assert (await operator.audit(visitor.device_id)).count("approved") == 1


async def test_a_session_holds_at_every_replica_and_ends_at_every_replica(
    browser: Browser, stack: Stack
) -> None:
    east, west = stack.approvals
    async with screen(browser, stack, east) as one:
        await one.come_in()
        (cookie,) = await one.page.context.cookies(f"{east.url}/v1/session")
        assert (cookie["name"], cookie["path"]) == (COOKIE, "/v1")
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        assert await one.page.evaluate("document.cookie") == ""
        tab = await one.page.context.new_page()
        await tab.goto(f"{west.url}/setup")
        await one.sees(tab.locator("#state"), "Live")
        await one.page.get_by_role("button", name="Sign out").click()
        await one.sees(one.page.locator("#sign-in"), "You are signed out.")
        await one.sees(tab.locator("#sign-in"), "Your session has ended.")


async def test_a_wrong_token(browser: Browser, stack: Stack) -> None:
    async with screen(browser, stack) as one:
        await one.open()
        await one.sign_in("this is no token, and ü is not even ASCII")
        await one.sees(one.page.locator("#token-problem"), "That is not the admin token.")
        await one.sign_in()
        await one.is_live()
        assert stack.admin_token not in one.page.url
        assert await one.page.locator("#token").input_value() == ""


@pytest.mark.timeout(120)
async def test_redis_restarts_while_the_page_is_open(browser: Browser, stack: Stack) -> None:
    visitor = Visitor(stack, replace(CLI, display_name="After the storm"))
    async with screen(browser, stack) as one:
        await one.come_in()
        stack.redis.kill9()
        await one.sees(one.page.get_by_role("alert").first, "Redis does not answer")
        stack.redis.start()
        await one.is_live()
        await expect(one.page.locator("#trouble")).to_be_empty(timeout=SEE_MS)
        for service in stack.services:
            await service.until_ready()
        request_id = await visitor.waits(stack.gateways[0])
        await expect(one.request(request_id)).to_be_visible(timeout=SEE_MS)


@pytest.mark.timeout(120)
async def test_the_approval_restarts_while_the_page_is_open(browser: Browser, stack: Stack) -> None:
    visitor = Visitor(stack, replace(CLI, display_name="After the restart"))
    async with screen(browser, stack) as one:
        await one.come_in()
        stack.approvals[0].kill9()
        await one.sees(one.page.get_by_role("alert").first, "The approval service does not answer")
        request_id = await visitor.waits(stack.gateways[0])
        stack.approvals[0].start()
        await one.is_live()
        await expect(one.request(request_id)).to_be_visible(timeout=SEE_MS)
        await expect(one.page.locator("#trouble")).to_be_empty(timeout=SEE_MS)


async def test_a_hostile_name_is_shown_as_text(browser: Browser, stack: Stack) -> None:
    visitor = Visitor(stack, replace(CLI, display_name=HOSTILE, device_family="</li><script>"))
    async with screen(browser, stack, viewport=PHONE) as one:
        await one.come_in()
        card = one.request(await visitor.waits(stack.gateways[0]))
        await one.sees(card, "<img src=x onerror=")
        await one.sees(card, r"\u202egnp.exe \u001b[31mred")
        await one.sees(card, "</li><script>")
        await card.get_by_role("button", name="Approve").click()
        await one.sees(card, "Approved.")
        await one.sees(one.device(visitor.device_id), "<img src=x onerror=")
        await one.sees(one.page.locator("#audit"), "<img src=x onerror=")
        assert await one.page.locator("main img, main script").count() == 0
        assert re.search(r"Manage Devices", await one.page.title())
        assert await one.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


async def test_no_device_chooses_what_history_calls_it(browser: Browser, stack: Stack) -> None:
    """Entries are keyed by device id; the name that a device chose is only shown beside it."""
    visitor = Visitor(stack, replace(CLI, display_name="The old name"))
    feigned = f"{'0' * 8} was approved by an operator"
    async with screen(browser, stack) as one:
        await one.come_in()
        await visitor.waits(stack.gateways[0])
        wider = CLI.asking("operator.read", "operator.write")
        visitor.profile = replace(wider, display_name=feigned)
        await visitor.waits(stack.gateways[0])
        log = one.page.locator("#audit li", has_text=visitor.device_id[:8])
        await one.sees(log.first, f"{visitor.device_id[:8]} “{feigned}” requested approval")
        await expect(log).to_have_count(2)
        for entry in await log.all():
            await expect(entry.locator("code")).to_have_text(visitor.device_id[:8])
            await expect(entry.locator(".called")).to_have_text(f"“{feigned}”")


async def test_the_keyboard_is_enough(browser: Browser, stack: Stack) -> None:
    visitor = Visitor(stack, replace(CLI, display_name="By keyboard"))
    async with screen(browser, stack) as one:
        await one.open()
        await one.page.get_by_label("Admin token").press_sequentially(stack.admin_token)
        await one.page.keyboard.press("Enter")
        await one.is_live()
        card = one.request(await visitor.waits(stack.gateways[0]))
        approve = card.get_by_role("button", name="Approve")
        await expect(approve).to_be_visible(timeout=SEE_MS)
        await approve.focus()
        await Visitor(stack, CLI).waits(stack.gateways[0])
        await one.sees(one.page.locator("#news"), "New device waiting")
        await expect(approve).to_be_focused()
        await one.page.keyboard.press("Enter")
        await one.sees(card, "Approved.")
        await expect(card.locator(".outcome")).to_be_focused()
        await one.page.keyboard.press("Tab")
        await one.page.keyboard.press("Enter")
        await expect(card).to_have_count(0)
        await expect(one.page.locator("#waiting-heading")).to_be_focused()


async def _listeners(stack: Stack, wanted: int) -> None:
    """Wait until the first approval has this many listeners."""
    text = f"\nlatchkey_approval_listeners {wanted}.0\n"
    async with aiohttp.ClientSession() as http, asyncio.timeout(WAIT_SECONDS):
        while True:
            async with http.get(f"{stack.approvals[0].url}/metrics") as answer:
                if text in await answer.text():
                    return
            await asyncio.sleep(POLL_SECONDS)


async def test_a_page_that_nobody_looks_at_listens_no_more(browser: Browser, stack: Stack) -> None:
    visitor = Visitor(stack, replace(CLI, display_name="While away"))
    turn = (
        "hidden => { Object.defineProperty(document, 'hidden', {configurable: true, value: hidden});"
        "document.dispatchEvent(new Event('visibilitychange')); }"
    )
    async with screen(browser, stack) as one:
        await one.page.clock.install()
        await one.come_in()
        await _listeners(stack, 1)
        await one.page.evaluate(turn, arg=True)
        await one.page.clock.fast_forward(31_000)
        await _listeners(stack, 0)
        request_id = await visitor.waits(stack.gateways[0])
        await one.page.evaluate(turn, arg=False)
        await expect(one.request(request_id)).to_be_visible(timeout=SEE_MS)
        said = f"{visitor.device_id[:8]} “While away” requested approval"
        await one.sees(one.page.locator("#audit"), said)
