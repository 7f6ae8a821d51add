"""The page explains why a device cannot connect and what to do about it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from playwright.async_api import expect

from shared.device.identity import DeviceKey
from shared.device.profile import CLI
from tests.browser.screens import DESKTOP, screen
from tests.support.attempts import alter, connect
from tests.support.websocket.first_frame import send_first_frame
from tools.support.actors import Operator, SimulatedDevice, pair

if TYPE_CHECKING:
    from playwright.async_api import Browser

    from shared.device.handshake import Challenge
    from tools.support.processes.stack import Stack

MARKUP = "<img src=x onerror=alert(1)>\u202e Kitchen"
SMALL = {"width": 390, "height": 844}


async def rotated(stack: Stack, device_id: str) -> None:
    async with Operator(stack, stack.approvals[0]) as operator:
        (await operator.rotate(device_id)).ok()


async def test_the_card_of_a_device_says_why_and_what_to_do(browser: Browser, stack: Stack) -> None:
    gateway = stack.gateways[1]
    device = await pair(stack, replace(CLI, display_name=MARKUP))
    await rotated(stack, device.device_id)
    async with screen(browser, stack) as view:
        await view.come_in()
        card = view.device(device.device_id)
        await expect(card).to_be_visible()
        await expect(card.locator(".refused")).to_have_count(2)
        await expect(card.locator(".refused:visible")).to_have_count(0)

        for _ in range(2):
            await device.expect_refusal(gateway, with_gateway_token=False)
        own = card.locator(".refused:not(.claim)")
        for text in (
            "Last refused",
            "its device token is not valid",
            "2 times since",
            "from this machine, at gateway",
            gateway.boot_id[:8],
            "What to do: The token was rotated or revoked",
        ):
            await view.sees(own, text)
        await expect(own.locator("code", has_text="OPENCLAW_GATEWAY_TOKEN")).to_be_visible()

        def claim(challenge: Challenge) -> object:
            made = connect(key=DeviceKey.generate(), challenge=challenge)
            return alter(made, lambda params: params["device"].update(id=device.device_id))

        await send_first_frame(gateway, claim)
        claimed = card.locator(".refused.claim")
        await view.sees(claimed, "A client that claimed to be this device, without proof, was")
        await view.sees(claimed, "the device id does not belong to its key")
        await view.sees(claimed, "What to do, if it is yours")
        await view.sees(own, "its device token is not valid")

        await device.connect_once(stack.gateways[0])
        await view.sees(own, "before it was last admitted: its device token is not valid")
        await expect(own.get_by_text("What to do")).to_have_count(0)


async def test_a_refused_device_is_shown_on_the_card_of_its_request(
    browser: Browser, stack: Stack
) -> None:
    device = SimulatedDevice(stack, replace(CLI, display_name="Hall computer"))
    async with screen(browser, stack) as view:
        await view.come_in()
        card = view.request(await device.request_pairing(stack.gateways[0]))
        own = card.locator(".refused:not(.claim)")
        await view.sees(own, "it waits for approval")
        await expect(own.get_by_text("What to do")).to_have_count(0)
        await send_first_frame(
            stack.gateways[0],
            lambda challenge: connect(
                device.profile, key=device.key, token=None, challenge=challenge
            ),
        )
        await view.sees(own, "it sent no token")
        await view.sees(own, "What to do: Give it the gateways' OPENCLAW_GATEWAY_TOKEN")
        await card.get_by_role("button", name="Reject").click()
        await expect(own).to_be_hidden()


async def test_refused_clients_without_a_card_are_listed(browser: Browser, stack: Stack) -> None:
    stranger = DeviceKey.generate()
    profile = replace(CLI, display_name=MARKUP)
    for sent in ({"key": None, "token": "wrong"}, {"key": stranger, "token": None}):
        given: dict[str, Any] = sent

        def frame(challenge: Challenge, given: dict[str, Any] = given) -> object:
            return connect(profile, challenge=challenge, **given)

        await send_first_frame(stack.gateways[0], frame)
    for viewport in (DESKTOP, SMALL):
        async with screen(browser, stack, viewport=viewport) as view:
            await view.come_in()
            rows = view.page.locator("#refusals li")
            without = rows.filter(has_text="No device").filter(has_text="a wrong gateway token")
            await view.sees(without, "It sent a wrong gateway token.")
            await view.sees(without, "Command line")
            await view.sees(without, "What to do: Give it the first value")
            unpaired = rows.filter(has_text=f"Device {stranger.device_id[:8]}")
            await view.sees(unpaired, "It sent no token.")
            await view.sees(unpaired, "<img src=x onerror=alert(1)>\\u202e Kitchen")
            assert await view.page.locator("#refusals img").count() == 0
            width = "document.documentElement.scrollWidth <= innerWidth"
            assert await view.page.evaluate(width)
