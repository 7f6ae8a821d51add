"""Many devices and many requests: paging, search, and a flood from one address."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import pytest
from playwright.async_api import expect

from shared.rpc.messages import NeedsPairing
from tests.browser.screens import SEE_MS, screen
from tests.support.approval.devices import Device
from tools.support.actors import Operator, SimulatedDevice
from tools.support.peers import FakeGateway
from tools.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser

    from tests.conftest import StartStack
    from tools.support.processes.stack import Stack

FLOODER: Final = "203.0.113.9"
HONEST: Final = "198.51.100.7"
FLOOD: Final = 12
LISTED_OF_ADDRESS: Final = 5


@pytest.fixture
def stack(start_stack: StartStack) -> Stack:
    """One approval and one gateway for each test, so that nothing else is pending."""
    return start_stack(approvals=1, gateways=1)


@asynccontextmanager
async def asking(stack: Stack) -> AsyncIterator[FakeGateway]:
    """Return a gateway that can send requests for devices of any address."""
    async with FakeGateway(stack.redis.gateway_url, stack.bus_secret) as gateway:
        await until(gateway.responders.live, "approval is heard")
        yield gateway


async def request(gateway: FakeGateway, name: str, address: str) -> str:
    """Send a request for a new device; returns the request id."""
    answer = await gateway.ask(Device.new().asks(name=name, address=address))
    assert isinstance(answer, NeedsPairing)
    return answer.request_id


async def test_a_flood_is_rejected_as_it_was_shown_and_hides_nobody(
    browser: Browser, stack: Stack
) -> None:
    async with asking(stack) as gateway, screen(browser, stack) as view:
        honest = await request(gateway, "Kitchen", HONEST)
        flood = [await request(gateway, f"Flood {n}", FLOODER) for n in range(FLOOD)]
        await view.come_in()
        await expect(view.request(honest)).to_be_visible(timeout=SEE_MS)
        cards = view.page.locator("[data-request]")
        await expect(cards).to_have_count(LISTED_OF_ADDRESS + 1)
        await view.sees(view.page.locator("#waiting-count"), str(FLOOD + 1))
        crowd = view.page.locator("#crowds")
        await view.sees(crowd, f"{FLOOD} pending requests from {FLOODER}; the newest are listed.")

        await crowd.get_by_role("button", name="Show them all").click()
        await expect(cards).to_have_count(FLOOD)
        await crowd.get_by_role("button", name="Show all addresses").click()
        await expect(cards).to_have_count(LISTED_OF_ADDRESS + 1)

        await crowd.get_by_role("button", name=f"Reject all from {FLOODER}").click()
        dialog = view.page.get_by_role("dialog")
        await view.sees(dialog, f"Reject {FLOOD} requests from {FLOODER}?")
        await expect(dialog.get_by_role("listitem")).to_have_count(FLOOD)
        for n in range(FLOOD):
            await view.sees(dialog, f"Flood {n} ·")
        late = await request(gateway, "Came meanwhile", FLOODER)
        await expect(view.request(late)).to_be_visible(timeout=SEE_MS)
        await view.confirm(f"Reject {FLOOD} requests")
        await view.sees(view.page.locator("#news"), f"Rejected {FLOOD} from {FLOODER}.")
        await expect(cards).to_have_count(2)
        for left in (honest, late):
            await expect(view.request(left)).to_be_visible()
        await expect(crowd).to_be_hidden()
        async with Operator(stack, stack.approvals[0]) as operator:
            entries = (await operator.call("GET", "audit?limit=1000")).ok()["entries"]
        rejected = [entry["requestId"] for entry in entries if entry["action"] == "rejected"]
        assert sorted(rejected) == sorted(flood)


async def test_requests_are_listed_in_pages_and_found_by_what_the_device_prints(
    browser: Browser, stack: Stack
) -> None:
    async with asking(stack) as gateway, screen(browser, stack) as view:
        ids = [await request(gateway, f"Device {n}", f"192.0.2.{n}") for n in range(23)]
        await view.come_in()
        pager = view.page.get_by_role("navigation", name="More requests")
        await view.sees(pager, "1–20 of 23")  # noqa: RUF001 (as it is shown)
        await pager.get_by_role("button", name="Older").click()
        await view.sees(pager, "21–23 of 23")  # noqa: RUF001 (as it is shown)
        await expect(view.request(ids[0])).to_be_visible()
        await expect(view.page.locator("#waiting-heading")).to_be_focused()
        await expect(view.request(ids[-1])).to_have_count(0)

        await view.page.get_by_label("Search requests").fill(ids[7][:8])
        await view.sees(view.page.locator("#waiting-found"), "1 found")
        await expect(view.page.locator("[data-request]")).to_have_count(1)
        await expect(view.request(ids[7])).to_be_visible()
        await view.page.get_by_label("Search requests").fill("nobody like this")
        await expect(view.page.locator("#nothing-found")).to_be_visible()
        await view.page.get_by_label("Search requests").fill("")
        await view.sees(pager, "1–20 of 23")  # noqa: RUF001 (as it is shown)

        newest = await request(gateway, "One more", "192.0.2.99")
        await expect(view.request(newest)).to_be_visible(timeout=SEE_MS)
        await view.sees(pager, "of 24")


async def test_devices_are_listed_in_pages_and_found_anywhere(
    browser: Browser, stack: Stack
) -> None:
    async with (
        asking(stack) as gateway,
        Operator(stack, stack.approvals[0]) as operator,
        screen(browser, stack) as view,
    ):
        for n in range(30):
            request_id = await request(gateway, f"Device {n}", f"192.0.2.{n}")
            (await operator.approve(request_id)).ok()
        await view.come_in()
        cards = view.page.locator("[data-device]")
        await expect(cards).to_have_count(25, timeout=SEE_MS)
        await view.sees(view.page.locator("#devices-count"), "30")
        pager = view.page.get_by_role("navigation", name="More devices")
        await view.sees(pager, "1–25 of 30")  # noqa: RUF001 (as it is shown)
        await pager.get_by_role("button", name="Older").click()
        await expect(cards).to_have_count(5)
        await view.sees(pager, "26–30 of 30")  # noqa: RUF001 (as it is shown)
        await view.sees(cards.last, "Device 0")
        await pager.get_by_role("button", name="Newer").click()
        await expect(cards).to_have_count(25)

        await view.page.get_by_label("Search devices").fill("192.0.2.3")
        await expect(cards).to_have_count(1)
        await view.sees(cards, "Device 3")
        await view.page.get_by_label("Search devices").fill("")
        await expect(cards).to_have_count(25)

        await cards.last.locator("summary").click()
        opened = await cards.last.get_attribute("data-device")
        assert opened
        device = SimulatedDevice(stack)
        (await operator.approve(await device.request_pairing(stack.gateways[0]))).ok()
        await expect(view.device(device.device_id)).to_be_visible(timeout=SEE_MS)
        await expect(view.device(opened)).to_be_visible()
        client, _ = await device.stay_connected(stack.gateways[0])
        async with client:
            await view.sees(view.device(device.device_id), "Online at")
        await view.sees(view.device(device.device_id), re.compile("Offline"))
