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
from tools.support.actors import Operator, SimulatedDevice
from tools.support.waiting import POLL_SECONDS, WAIT_SECONDS

if TYPE_CHECKING:
    from playwright.async_api import Browser

    from tools.support.processes.stack import Stack

HOSTILE = "<img src=x onerror=document.title='owned'> \u202egnp.exe \x1b[31mred\x1b[0m\nsecond line"


async def test_two_operators_at_two_replicas_see_each_others_decisions(
    browser: Browser, stack: Stack
) -> None:
    """Each sees the other's decisions without reloading, and no approval counts twice."""
    device = SimulatedDevice(stack, replace(CLI, display_name="Shared tablet"))
    east, west = stack.approvals
    async with screen(browser, stack, east) as view, screen(browser, stack, west) as other:
        await view.come_in()
        await other.come_in()
        request_id = await device.request_pairing(stack.gateways[0])
        await expect(other.request(request_id)).to_be_visible(timeout=SEE_MS)
        await view.request(request_id).get_by_role("button", name="Approve").click()
        await view.sees(view.request(request_id), "Approved.")
        await other.sees(other.request(request_id), "Approved.")
        await expect(other.request(request_id).get_by_role("button", name="Approve")).to_have_count(
            0
        )
        client, _ = await device.stay_connected(stack.gateways[1])
        async with client:
            for each in (view, other):
                await each.sees(each.request(request_id), "after approval.")
                await each.sees(each.device(device.device_id), "Online at")
        for each in (view, other):
            await each.sees(each.device(device.device_id), "Offline")
    async with Operator(stack, east) as operator:
        assert (await operator.audit(device.device_id)).count("approved") == 1


async def test_a_session_holds_at_every_replica_and_ends_at_every_replica(
    browser: Browser, stack: Stack
) -> None:
    east, west = stack.approvals
    async with screen(browser, stack, east) as view:
        await view.come_in()
        (cookie,) = await view.page.context.cookies(f"{east.url}/v1/session")
        assert (cookie["name"], cookie["path"]) == (COOKIE, "/v1")
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        assert await view.page.evaluate("document.cookie") == ""
        tab = await view.page.context.new_page()
        await tab.goto(f"{west.url}/setup")
        await view.sees(tab.locator("#state"), "Live")
        await view.page.get_by_role("button", name="Sign out").click()
        await view.sees(view.page.locator("#sign-in"), "You are signed out.")
        await view.sees(tab.locator("#sign-in"), "Your session has ended.")


async def test_a_wrong_token_is_refused_on_the_page(browser: Browser, stack: Stack) -> None:
    async with screen(browser, stack) as view:
        await view.open()
        await view.sign_in("this is no token, and ü is not even ASCII")
        await view.sees(
            view.page.locator("#token-problem"), "That is not the token of an operator."
        )
        await view.sign_in()
        await view.is_live()
        assert stack.admin_token not in view.page.url
        assert await view.page.locator("#token").input_value() == ""


@pytest.mark.timeout(120)
async def test_redis_restarts_while_the_page_is_open(browser: Browser, stack: Stack) -> None:
    device = SimulatedDevice(stack, replace(CLI, display_name="After the storm"))
    async with screen(browser, stack) as view:
        await view.come_in()
        stack.redis.kill9()
        await view.sees(view.page.get_by_role("alert").first, "Redis does not answer")
        stack.redis.start()
        await view.is_live()
        await expect(view.page.locator("#trouble")).to_be_empty(timeout=SEE_MS)
        for service in stack.services:
            await service.until_ready()
        request_id = await device.request_pairing(stack.gateways[0])
        await expect(view.request(request_id)).to_be_visible(timeout=SEE_MS)


@pytest.mark.timeout(120)
async def test_the_approval_restarts_while_the_page_is_open(browser: Browser, stack: Stack) -> None:
    device = SimulatedDevice(stack, replace(CLI, display_name="After the restart"))
    async with screen(browser, stack) as view:
        await view.come_in()
        stack.approvals[0].kill9()
        await view.sees(
            view.page.get_by_role("alert").first, "The approval service does not answer"
        )
        request_id = await device.request_pairing(stack.gateways[0])
        stack.approvals[0].start()
        await view.is_live()
        await expect(view.request(request_id)).to_be_visible(timeout=SEE_MS)
        await expect(view.page.locator("#trouble")).to_be_empty(timeout=SEE_MS)


async def test_a_hostile_name_is_shown_as_text(browser: Browser, stack: Stack) -> None:
    device = SimulatedDevice(
        stack, replace(CLI, display_name=HOSTILE, device_family="</li><script>")
    )
    async with screen(browser, stack, viewport=PHONE) as view:
        await view.come_in()
        card = view.request(await device.request_pairing(stack.gateways[0]))
        await view.sees(card, "<img src=x onerror=")
        await view.sees(card, r"\u202egnp.exe \u001b[31mred")
        await view.sees(card, "</li><script>")
        await card.get_by_role("button", name="Approve").click()
        await view.sees(card, "Approved.")
        await view.sees(view.device(device.device_id), "<img src=x onerror=")
        await view.sees(view.page.locator("#audit"), "<img src=x onerror=")
        own = "#setup-code-qr"
        foreign = view.page.locator(f"main img:not({own}), main script")
        assert await foreign.count() == 0
        assert re.search(r"Manage Devices", await view.page.title())
        assert await view.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


async def test_no_device_chooses_what_history_calls_it(browser: Browser, stack: Stack) -> None:
    """Entries are keyed by device id; the name that a device chose is only shown beside it."""
    device = SimulatedDevice(stack, replace(CLI, display_name="The old name"))
    feigned = f"{'0' * 8} was approved by operator admin"
    async with screen(browser, stack) as view:
        await view.come_in()
        await device.request_pairing(stack.gateways[0])
        wider = CLI.with_scopes("operator.read", "operator.write")
        device.profile = replace(wider, display_name=feigned)
        await device.request_pairing(stack.gateways[0])
        log = view.page.locator("#audit li", has_text=device.device_id[:8])
        await view.sees(log.first, f"{device.device_id[:8]} “{feigned}” requested approval")
        await expect(log).to_have_count(2)
        for entry in await log.all():
            await expect(entry.locator("code")).to_have_text(device.device_id[:8])
            await expect(entry.locator(".called")).to_have_text(f"“{feigned}”")


async def test_the_keyboard_is_enough(browser: Browser, stack: Stack) -> None:
    device = SimulatedDevice(stack, replace(CLI, display_name="By keyboard"))
    async with screen(browser, stack) as view:
        await view.open()
        await view.page.get_by_label("Operator token").press_sequentially(stack.admin_token)
        await view.page.keyboard.press("Enter")
        await view.is_live()
        card = view.request(await device.request_pairing(stack.gateways[0]))
        approve = card.get_by_role("button", name="Approve")
        await expect(approve).to_be_visible(timeout=SEE_MS)
        await approve.focus()
        await SimulatedDevice(stack, CLI).request_pairing(stack.gateways[0])
        await view.sees(view.page.locator("#news"), "New device waiting")
        await expect(approve).to_be_focused()
        await view.page.keyboard.press("Enter")
        await view.sees(card, "Approved.")
        await expect(card.locator(".outcome")).to_be_focused()
        await view.page.keyboard.press("Tab")
        await view.page.keyboard.press("Enter")
        await expect(card).to_have_count(0)
        await expect(view.page.locator("#waiting-heading")).to_be_focused()


async def _listeners(stack: Stack, wanted: int) -> None:
    """Wait until the first approval has this many listeners."""
    text = f"\nlatchkey_approval_listeners {wanted}.0\n"
    async with aiohttp.ClientSession() as http, asyncio.timeout(WAIT_SECONDS):
        while True:
            async with http.get(f"{stack.approvals[0].url}/metrics") as answer:
                if text in await answer.text():
                    return
            await asyncio.sleep(POLL_SECONDS)


async def test_a_hidden_page_stops_listening(browser: Browser, stack: Stack) -> None:
    device = SimulatedDevice(stack, replace(CLI, display_name="While away"))
    turn = (
        "hidden => { Object.defineProperty(document, 'hidden', {configurable: true, value: hidden});"
        "document.dispatchEvent(new Event('visibilitychange')); }"
    )
    async with screen(browser, stack) as view:
        await view.page.clock.install()
        await view.come_in()
        await _listeners(stack, 1)
        await view.page.evaluate(turn, arg=True)
        await view.page.clock.fast_forward(31_000)
        await _listeners(stack, 0)
        request_id = await device.request_pairing(stack.gateways[0])
        await view.page.evaluate(turn, arg=False)
        await expect(view.request(request_id)).to_be_visible(timeout=SEE_MS)
        text = f"{device.device_id[:8]} “While away” requested approval"
        await view.sees(view.page.locator("#audit"), text)
