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
from tools.support.people import Visitor

if TYPE_CHECKING:
    from playwright.async_api import Browser

    from tools.support.stack import Stack

APPEARS_SECONDS = 1.0
KITCHEN = replace(CLI, display_name="Kitchen laptop")
ONLINE = re.compile(r"Online at [0-9a-f]{8}, \d+ seconds? after approval\.")


async def test_from_refused_to_online_to_revoked(browser: Browser, stack: Stack) -> None:
    gateway = stack.gateways[0]
    visitor = Visitor(stack, KITCHEN)
    async with screen(browser, stack) as one:
        await one.come_in()
        await one.sees(one.page.locator("#nothing-waits"), GATEWAY_URL)

        request_id = await visitor.waits(gateway)
        refused = time.monotonic()
        card = one.request(request_id)
        await expect(card).to_be_visible(timeout=SEE_MS)
        appeared = time.monotonic() - refused
        for text in ("Kitchen laptop", "Command line", "linux", "First asked", "Read"):
            await one.sees(card, text)
        await one.sees(card, " ".join(re.findall("....", visitor.device_id)))
        await expect(card.get_by_text(request_id, exact=True)).to_be_visible()
        await one.sees(one.page.locator("#news"), "New device waiting: Kitchen laptop")
        assert appeared < APPEARS_SECONDS

        await card.get_by_role("button", name="Approve Kitchen laptop").click()
        await one.sees(card, "The device is admitted when it next connects. Run its command again")
        assert await card.locator(".outcome").evaluate("it => it === document.activeElement")

        client, _ = await visitor.stays(gateway)
        try:
            await one.sees(card, ONLINE)
            await one.sees(card, gateway.boot_id[:8])
            device = one.device(visitor.device_id)
            await one.sees(device, f"Online at {gateway.boot_id[:8]} since")

            await one.act(visitor.device_id, "Rename")
            await one.page.get_by_label("New name").fill("Hall computer")
            await one.confirm("Rename")
            await one.sees(device.get_by_role("heading", level=3), "Hall computer")

            await one.act(visitor.device_id, "Revoke")
            await one.sees(
                one.page.get_by_role("dialog"), "its connections in that role are closed"
            )
            await one.confirm("Revoke")
            assert (await client.closed(within=10)).code == 4001
        finally:
            await client.close()
        await one.sees(device, "As operator (revoked)")
        await one.sees(device, "Offline, last seen")
        named = f"{visitor.device_id[:8]} “Hall computer”"
        for text in ("was revoked by an operator", "was renamed", "was approved"):
            await one.sees(one.page.locator("#audit"), f"{named} {text}")

        again = await visitor.waits(gateway)
        await one.sees(one.request(again), "Its access as operator was revoked")
        await one.request(again).get_by_role("button", name="Reject").click()
        await one.sees(one.request(again), "Rejected")

        await one.act(visitor.device_id, "Remove")
        await one.confirm("Remove")
        await expect(device).to_have_count(0, timeout=SEE_MS)


async def test_a_dashboard_may_come_back_by_itself(browser: Browser, stack: Stack) -> None:
    visitor = Visitor(stack, replace(CONTROL_UI, display_name="Tablet"))
    async with screen(browser, stack) as one:
        await one.come_in()
        card = one.request(await visitor.waits(stack.gateways[0]))
        await card.get_by_role("button", name="Approve").click()
        await one.confirm("Approve with full control")
        await one.sees(card, "A dashboard with protocol 4 reconnects by itself; with protocol 3")


async def test_all_clients_of_one_key_are_shown_before_they_are_approved(
    browser: Browser, stack: Stack
) -> None:
    visitor = Visitor(stack, KITCHEN)
    node = replace(visitor, profile=replace(NODE_HOST, display_name="box", platform="darwin"))
    async with screen(browser, stack) as one:
        await one.come_in()
        old = one.request(await visitor.waits(stack.gateways[0]))
        await one.sees(old, "It requests access")
        card = one.request(await node.waits(stack.gateways[1]))
        await one.sees(old, "The device has since made another request")
        for text in ("box", "Node host", "darwin", "As node", "As operator"):
            await one.sees(card, text)
        await one.sees(card, "It also asks as")
        await one.sees(card.locator(".others"), "Kitchen laptop · Command line · linux")
        assert await visitor.waits(stack.gateways[1]) == await node.waits(stack.gateways[0])
        await card.get_by_role("button", name="Approve").click()
        await one.sees(card, "Approved.")
        await visitor.visits(stack.gateways[1])
        await node.visits(stack.gateways[0])
        visitor.profile = replace(KITCHEN, display_name="Hall laptop")
        await visitor.visits(stack.gateways[0])
        heading = one.device(visitor.device_id).get_by_role("heading", level=3)
        await one.sees(heading, "Hall laptop")


async def test_devices_with_the_same_name_are_distinguishable(
    browser: Browser, stack: Stack
) -> None:
    """Buttons have distinct accessible names: screen readers announce them without the card."""
    twins = [Visitor(stack, replace(CLI, display_name="Twin")) for _ in range(2)]
    async with screen(browser, stack) as one:
        await one.come_in()
        for twin in twins:
            request_id = await twin.waits(stack.gateways[0])
            request = f"Twin, request {request_id[:8]}"
            reject = one.page.get_by_role("button", name=f"Reject {request}")
            approve = one.page.get_by_role("button", name=f"Approve {request}")
            for button in (reject, approve):
                await expect(button).to_have_count(1, timeout=SEE_MS)
            await approve.click()
        for twin in twins:
            about = one.page.get_by_label(f"Details and actions for Twin, {twin.device_id[:8]}")
            await expect(about).to_have_count(1, timeout=SEE_MS)
            await about.click()
            remove = one.page.get_by_role("button", name=f"Remove: Twin, {twin.device_id[:8]}")
            await expect(remove).to_have_count(1)


async def test_a_paired_device_wants_more(browser: Browser, stack: Stack) -> None:
    gateway = stack.gateways[1]
    visitor = Visitor(stack, replace(CLI, display_name="Reader"))
    async with screen(browser, stack) as one:
        await one.come_in()
        first = one.request(await visitor.waits(gateway))
        await first.get_by_role("button", name="Approve").click()
        await one.sees(first, "Approved.")
        await visitor.visits(gateway)
        await one.sees(
            first, re.compile("Admitted .* after approval, and disconnected since|Online at")
        )
        await first.get_by_role("button", name="Dismiss").click()
        await expect(first).to_have_count(0)

        wants = visitor.asking("operator.read", "operator.admin")
        card = one.request(await wants.waits(gateway))
        await one.sees(card, "Already paired")
        await one.sees(card, "New rights: everything (operator.admin)")
        await one.sees(card, "It keeps what it has: read (operator.read)")
        await one.sees(card.locator(".flagged"), "Full control")
        await card.get_by_role("button", name="Approve").click()
        await one.sees(one.page.get_by_role("dialog"), "It requests operator.admin.")
        await one.confirm("Approve with full control")
        await one.sees(card, "Approved.")
        client, admitted = await wants.stays(stack.gateways[0])
        async with client:
            assert "operator.admin" in admitted.scopes
            await one.sees(card, ONLINE)
            row = one.page.locator("#gateways tr", has_text=stack.gateways[0].boot_id[:8])
            await one.sees(row, re.compile("1.*Healthy"))

            await one.act(visitor.device_id, "New token")
            await one.sees(one.page.get_by_role("dialog"), "invalid at once")
            await one.confirm("Issue a new token")
            assert (await client.closed(within=10)).code == 4001
            await one.sees(one.page.locator("#audit"), "was issued a new token by an operator")
        assert (await wants.refused(stack.gateways[0], with_gateway_token=False)).code
        await wants.visits(stack.gateways[0])


async def test_what_was_shown_is_what_is_approved(browser: Browser, stack: Stack) -> None:
    """A request that arrives just before the click stays pending, as does one for more scopes."""
    gateway = stack.gateways[0]
    visitor, newcomer = Visitor(stack, KITCHEN), Visitor(stack, KITCHEN)
    async with screen(browser, stack) as one:
        await one.come_in()
        shown = await visitor.waits(gateway)
        approve = one.request(shown).get_by_role("button", name="Approve")
        await expect(approve).to_be_visible(timeout=SEE_MS)
        await approve.hover()
        before = await approve.bounding_box()
        other = one.request(await newcomer.waits(gateway))
        await expect(other).to_be_visible(timeout=SEE_MS)
        after = await approve.bounding_box()
        assert before
        assert after
        assert abs(after["y"] - before["y"]) < 1, "a newcomer moves nothing under a pointer"
        await approve.click()
        await one.sees(one.request(shown), "Approved.")
        await expect(other.get_by_role("button", name="Approve")).to_be_visible()
        await visitor.visits(gateway)

        await other.get_by_role("button", name="Approve").focus()
        wider = await newcomer.asking("operator.read", "operator.write").waits(gateway)
        await one.sees(other, "has since made another request")
        await one.sees(one.request(wider), "Write")
        await one.request(wider).get_by_role("button", name="Reject").click()
        await one.sees(one.request(wider), "Rejected")
