"""A refused device appears on the open page, is approved with a click, and connects."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from playwright.async_api import expect

from shared.device.profile import CLI, CONTROL_UI, NODE_HOST
from tests.browser.conftest import GATEWAY_URL
from tests.browser.screens import SEE_MS, screen
from tools.support.actors import SimulatedDevice

if TYPE_CHECKING:
    from playwright.async_api import Browser

    from tools.support.processes.stack import Stack

APPEARS_SECONDS = 1.0
KITCHEN = replace(CLI, display_name="Kitchen laptop")
ONLINE = re.compile(r"Online at [0-9a-f]{8}, \d+ seconds? after approval\.")


async def test_from_refused_to_online_to_revoked(browser: Browser, stack: Stack) -> None:
    gateway = stack.gateways[0]
    client_device = SimulatedDevice(stack, KITCHEN)
    async with screen(browser, stack) as view:
        await view.come_in()
        await view.sees(view.page.locator("#nothing-waits"), GATEWAY_URL)

        request_id = await client_device.request_pairing(gateway)
        refused = time.monotonic()
        card = view.request(request_id)
        await expect(card).to_be_visible(timeout=SEE_MS)
        appeared = time.monotonic() - refused
        for text in ("Kitchen laptop", "Command line", "linux", "First asked", "Read"):
            await view.sees(card, text)
        await view.sees(card, " ".join(re.findall("....", client_device.device_id)))
        await expect(card.get_by_text(request_id, exact=True)).to_be_visible()
        await view.sees(view.page.locator("#news"), "New device waiting: Kitchen laptop")
        assert appeared < APPEARS_SECONDS

        await card.get_by_role("button", name="Approve Kitchen laptop").click()
        await view.sees(card, "The device is admitted when it next connects. Run its command again")
        assert await card.locator(".outcome").evaluate("it => it === document.activeElement")

        client, _ = await client_device.stay_connected(gateway)
        try:
            await view.sees(card, ONLINE)
            await view.sees(card, gateway.boot_id[:8])
            device = view.device(client_device.device_id)
            await view.sees(device, f"Online at {gateway.boot_id[:8]} since")

            await view.act(client_device.device_id, "Rename")
            await view.page.get_by_label("New name").fill("Hall computer")
            await view.confirm("Rename")
            await view.sees(device.get_by_role("heading", level=3), "Hall computer")

            await view.act(client_device.device_id, "Revoke")
            await view.sees(
                view.page.get_by_role("dialog"), "its connections in that role are closed"
            )
            await view.confirm("Revoke")
            assert (await client.closed(within=10)).code == 4001
        finally:
            await client.close()
        await view.sees(device, "As operator (revoked)")
        await view.sees(device, "Offline, last seen")
        named = f"{client_device.device_id[:8]} “Hall computer”"
        for text in ("was revoked by operator admin", "was renamed", "was approved"):
            await view.sees(view.page.locator("#audit"), f"{named} {text}")

        again = await client_device.request_pairing(gateway)
        await view.sees(view.request(again), "Its access as operator was revoked")
        await view.request(again).get_by_role("button", name="Reject").click()
        await view.sees(view.request(again), "Rejected")

        await view.act(client_device.device_id, "Remove")
        await view.confirm("Remove")
        await expect(device).to_have_count(0, timeout=SEE_MS)


async def test_a_dashboard_may_reconnect_by_itself(browser: Browser, stack: Stack) -> None:
    device = SimulatedDevice(stack, replace(CONTROL_UI, display_name="Tablet"))
    async with screen(browser, stack) as view:
        await view.come_in()
        card = view.request(await device.request_pairing(stack.gateways[0]))
        await card.get_by_role("button", name="Approve").click()
        await view.confirm("Approve with full control")
        await view.sees(card, "A dashboard with protocol 4 reconnects by itself; with protocol 3")


async def test_all_clients_of_one_key_are_shown_before_they_are_approved(
    browser: Browser, stack: Stack
) -> None:
    device = SimulatedDevice(stack, KITCHEN)
    node = replace(device, profile=replace(NODE_HOST, display_name="box", platform="darwin"))
    async with screen(browser, stack) as view:
        await view.come_in()
        old = view.request(await device.request_pairing(stack.gateways[0]))
        await view.sees(old, "It requests access")
        card = view.request(await node.request_pairing(stack.gateways[1]))
        await view.sees(old, "The device has since made another request")
        for text in ("box", "Node host", "darwin", "As node", "As operator"):
            await view.sees(card, text)
        await view.sees(card, "It also asks as")
        await view.sees(card.locator(".others"), "Kitchen laptop · Command line · linux")
        assert await device.request_pairing(stack.gateways[1]) == await node.request_pairing(
            stack.gateways[0]
        )
        await card.get_by_role("button", name="Approve").click()
        await view.sees(card, "Approved.")
        await device.connect_once(stack.gateways[1])
        await node.connect_once(stack.gateways[0])
        device.profile = replace(KITCHEN, display_name="Hall laptop")
        await device.connect_once(stack.gateways[0])
        heading = view.device(device.device_id).get_by_role("heading", level=3)
        await view.sees(heading, "Hall laptop")


async def test_devices_with_the_same_name_are_distinguishable(
    browser: Browser, stack: Stack
) -> None:
    """Buttons have distinct accessible names: screen readers announce them without the card."""
    twins = [SimulatedDevice(stack, replace(CLI, display_name="Twin")) for _ in range(2)]
    async with screen(browser, stack) as view:
        await view.come_in()
        for twin in twins:
            request_id = await twin.request_pairing(stack.gateways[0])
            request = f"Twin, request {request_id[:8]}"
            reject = view.page.get_by_role("button", name=f"Reject {request}")
            approve = view.page.get_by_role("button", name=f"Approve {request}")
            for button in (reject, approve):
                await expect(button).to_have_count(1, timeout=SEE_MS)
            await approve.click()
        for twin in twins:
            about = view.page.get_by_label(f"Details and actions for Twin, {twin.device_id[:8]}")
            await expect(about).to_have_count(1, timeout=SEE_MS)
            await about.click()
            remove = view.page.get_by_role("button", name=f"Remove: Twin, {twin.device_id[:8]}")
            await expect(remove).to_have_count(1)


async def test_a_paired_device_wants_more(browser: Browser, stack: Stack) -> None:
    gateway = stack.gateways[1]
    device = SimulatedDevice(stack, replace(CLI, display_name="Reader"))
    async with screen(browser, stack) as view:
        await view.come_in()
        first = view.request(await device.request_pairing(gateway))
        await first.get_by_role("button", name="Approve").click()
        await view.sees(first, "Approved.")
        await device.connect_once(gateway)
        await view.sees(
            first, re.compile("Admitted .* after approval, and disconnected since|Online at")
        )
        await first.get_by_role("button", name="Dismiss").click()
        await expect(first).to_have_count(0)

        wants = device.with_scopes("operator.read", "operator.admin")
        card = view.request(await wants.request_pairing(gateway))
        await view.sees(card, "Already paired")
        await view.sees(card, "New rights: everything (operator.admin)")
        await view.sees(card, "It keeps what it has: read (operator.read)")
        await view.sees(card.locator(".flagged"), "Full control")
        await card.get_by_role("button", name="Approve").click()
        await view.sees(view.page.get_by_role("dialog"), "It requests operator.admin.")
        await view.confirm("Approve with full control")
        await view.sees(card, "Approved.")
        client, admitted = await wants.stay_connected(stack.gateways[0])
        async with client:
            assert "operator.admin" in admitted.scopes
            await view.sees(card, ONLINE)
            row = view.page.locator("#gateways tr", has_text=stack.gateways[0].boot_id[:8])
            await view.sees(row, re.compile("1.*Healthy"))

            await view.act(device.device_id, "New token")
            await view.sees(view.page.get_by_role("dialog"), "invalid at once")
            await view.confirm("Issue a new token")
            assert (await client.closed(within=10)).code == 4001
            await view.sees(view.page.locator("#audit"), "was issued a new token by operator admin")
        assert (await wants.expect_refusal(stack.gateways[0], with_gateway_token=False)).code
        await wants.connect_once(stack.gateways[0])


async def test_what_was_shown_is_what_is_approved(browser: Browser, stack: Stack) -> None:
    """A request that arrives just before the click stays pending, as does one for more scopes."""
    gateway = stack.gateways[0]
    device, newcomer = SimulatedDevice(stack, KITCHEN), SimulatedDevice(stack, KITCHEN)
    async with screen(browser, stack) as view:
        await view.come_in()
        shown = await device.request_pairing(gateway)
        approve = view.request(shown).get_by_role("button", name="Approve")
        await expect(approve).to_be_visible(timeout=SEE_MS)
        await approve.hover()
        before = await approve.bounding_box()
        other = view.request(await newcomer.request_pairing(gateway))
        await expect(other).to_be_visible(timeout=SEE_MS)
        after = await approve.bounding_box()
        assert before
        assert after
        assert abs(after["y"] - before["y"]) < 1, "a newcomer moves nothing under a pointer"
        await approve.click()
        await view.sees(view.request(shown), "Approved.")
        await expect(other.get_by_role("button", name="Approve")).to_be_visible()
        await device.connect_once(gateway)

        await other.get_by_role("button", name="Approve").focus()
        wider = await newcomer.with_scopes("operator.read", "operator.write").request_pairing(
            gateway
        )
        await view.sees(other, "has since made another request")
        await view.sees(view.request(wider), "Write")
        await view.request(wider).get_by_role("button", name="Reject").click()
        await view.sees(view.request(wider), "Rejected")
