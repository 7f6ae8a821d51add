"""Cards on the page stay current when requests are withdrawn or decided elsewhere."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from shared.device.profile import CLI, NODE_HOST
from tests.browser.screens import SEE_MS, screen
from tools.support.actors import Operator, SimulatedDevice

if TYPE_CHECKING:
    from playwright.async_api import Browser

    from tools.support.processes.stack import Stack

ADMIN = ("operator.read", "operator.admin")


async def test_a_card_says_that_its_device_has_left_and_was_removed(
    browser: Browser, stack: Stack
) -> None:
    device = SimulatedDevice(stack, replace(CLI, display_name="Leaver"))
    async with screen(browser, stack) as view:
        await view.come_in()
        card = view.request(await device.request_pairing(stack.gateways[0]))
        await card.get_by_role("button", name="Approve").click()
        await view.sees(card, "Approved.")
        for _ in range(2):
            client, _ = await device.stay_connected(stack.gateways[0])
            await view.sees(card, "Online at")
            await view.sees(view.device(device.device_id), "Online at")
            await client.close()
            await view.sees(card, re.compile("Admitted .* after approval, and disconnected since"))
            await expect(card).not_to_contain_text("Online")
            await view.sees(view.device(device.device_id), "Offline")
        async with Operator(stack, stack.approvals[1]) as operator:
            (await operator.remove(device.device_id)).ok()
        await view.sees(card, "It was approved and has since been removed.")
        await expect(view.device(device.device_id)).to_have_count(0)


async def test_a_card_says_that_its_access_was_revoked(browser: Browser, stack: Stack) -> None:
    device = SimulatedDevice(stack, replace(CLI, display_name="Barred"))
    async with screen(browser, stack) as view:
        await view.come_in()
        card = view.request(await device.request_pairing(stack.gateways[0]))
        await card.get_by_role("button", name="Approve").click()
        client, _ = await device.stay_connected(stack.gateways[1])
        async with client:
            await view.sees(card, "Online at")
            await view.act(device.device_id, "Revoke")
            await view.confirm("Revoke")
        await view.sees(card, "its access has since been revoked")


async def test_the_newest_is_first(browser: Browser, stack: Stack) -> None:
    async with screen(browser, stack) as view:
        await view.come_in()
        ids = [await SimulatedDevice(stack).request_pairing(stack.gateways[0]) for _ in range(3)]
        await expect(view.request(ids[-1])).to_be_visible(timeout=SEE_MS)
        shown = await view.page.locator("[data-request]").evaluate_all(
            "all => all.map(one => one.dataset.request)"
        )
        assert [request_id for request_id in shown if request_id in ids] == ids[::-1]


class TestAdmin:
    """Granting full control needs a second, explicit confirmation."""

    async def test_it_is_given_only_after_a_second_yes(
        self, browser: Browser, stack: Stack
    ) -> None:
        device = SimulatedDevice(stack, replace(CLI, display_name="Root")).with_scopes(*ADMIN)
        async with screen(browser, stack) as view:
            await view.come_in()
            card = view.request(await device.request_pairing(stack.gateways[0]))
            approve = card.get_by_role("button", name="Approve")
            await approve.click()
            dialog = view.page.get_by_role("dialog")
            for text in ("Give full control to Root?", "operator.admin", "commands run on"):
                await view.sees(dialog, text)
            await expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
            await view.page.keyboard.press("Escape")
            await expect(approve).to_be_visible()
            await expect(approve).to_be_focused()
            assert (
                await device.expect_refusal(stack.gateways[0])
            ).detail_code == "PAIRING_REQUIRED"
            await view.page.keyboard.press("Enter")
            await view.confirm("Approve with full control")
            await view.sees(card, "Approved.")
            assert "operator.admin" in (await device.connect_once(stack.gateways[0])).scopes

    async def test_an_approval_that_would_restore_it_needs_the_same_confirmation(
        self, browser: Browser, stack: Stack
    ) -> None:
        device = SimulatedDevice(stack, replace(CLI, display_name="Once root")).with_scopes(*ADMIN)
        async with Operator(stack, stack.approvals[0]) as operator, screen(browser, stack) as view:
            (await operator.approve(await device.request_pairing(stack.gateways[0]))).ok()
            await device.connect_once(stack.gateways[0])
            (await operator.revoke(device.device_id, "operator")).ok()
            reader = device.with_scopes("operator.read")
            await view.come_in()
            card = view.request(await reader.request_pairing(stack.gateways[0]))
            await card.get_by_role("button", name="Approve").click()
            await view.sees(view.page.get_by_role("dialog"), "restores operator.admin")
            await view.confirm("Approve with full control")
            await view.sees(card, "Approved.")


class TestDialogs:
    """The subject of a dialog may end while the dialog is open."""

    async def test_a_request_that_is_superseded_can_no_longer_be_approved(
        self, browser: Browser, stack: Stack
    ) -> None:
        device = SimulatedDevice(stack, replace(CLI, display_name="Changing")).with_scopes(
            "operator.admin"
        )
        async with screen(browser, stack) as view:
            await view.come_in()
            card = view.request(await device.request_pairing(stack.gateways[0]))
            await card.get_by_role("button", name="Approve").click()
            dialog = view.page.get_by_role("dialog")
            yes = dialog.get_by_role("button", name="Approve with full control")
            await expect(yes).to_be_visible()
            node = replace(device, profile=NODE_HOST)
            wider = await node.request_pairing(stack.gateways[0])
            await view.sees(dialog, "The device has since made another request")
            await expect(yes).to_have_count(0)
            await dialog.get_by_role("button", name="Close").click()
            await expect(view.request(wider).get_by_role("button", name="Approve")).to_be_visible()

    async def test_a_device_that_was_removed_elsewhere_can_no_longer_be_renamed(
        self, browser: Browser, stack: Stack
    ) -> None:
        device = SimulatedDevice(stack, replace(CLI, display_name="Gone"))
        async with Operator(stack, stack.approvals[1]) as operator, screen(browser, stack) as view:
            (await operator.approve(await device.request_pairing(stack.gateways[0]))).ok()
            await view.come_in()
            await view.act(device.device_id, "Rename")
            dialog = view.page.get_by_role("dialog")
            (await operator.remove(device.device_id)).ok()
            await view.sees(dialog, "This device is no longer paired.")
            await expect(dialog.get_by_role("button", name="Rename")).to_have_count(0)

    async def test_a_blank_name_is_refused_with_a_message(
        self, browser: Browser, stack: Stack
    ) -> None:
        device = SimulatedDevice(stack, replace(CLI, display_name="Named"))
        async with Operator(stack, stack.approvals[0]) as operator, screen(browser, stack) as view:
            (await operator.approve(await device.request_pairing(stack.gateways[0]))).ok()
            await view.come_in()
            await view.act(device.device_id, "Rename")
            dialog = view.page.get_by_role("dialog")
            for blank in ("", "   "):
                await view.page.get_by_label("New name").fill(blank)
                await dialog.get_by_role("button", name="Rename").click()
                await view.sees(dialog, "A name has 1 to 64 characters and is not blank.")
            await view.page.get_by_label("New name").fill("  Hall  ")
            await view.confirm("Rename")
            await view.sees(view.device(device.device_id).get_by_role("heading", level=3), "Hall")


@pytest.mark.timeout(120)
async def test_in_an_outage_no_card_claims_to_know(browser: Browser, stack: Stack) -> None:
    client_device = SimulatedDevice(stack, replace(CLI, display_name="Stays through"))
    async with Operator(stack, stack.approvals[0]) as operator:
        (await operator.approve(await client_device.request_pairing(stack.gateways[0]))).ok()
    client, _ = await client_device.stay_connected(stack.gateways[0])
    async with client, screen(browser, stack) as view:
        await view.come_in()
        device = view.device(client_device.device_id)
        await view.sees(device, "Online at")
        stack.approvals[0].kill9()
        await view.sees(device, re.compile(r"Online at .*, as of \d\d:\d\d:\d\d"))
        stack.approvals[0].start()
        await view.is_live()
        await expect(device).not_to_contain_text("as of", timeout=SEE_MS)
        await view.sees(device, "Online at")
    await stack.approvals[0].until_ready()


async def test_each_replica_tells_its_release_and_how_long_it_has_been_running(
    browser: Browser, stack: Stack
) -> None:
    async with Operator(stack, stack.approvals[0]) as operator, screen(browser, stack) as view:
        live = (await operator.call("GET", "replicas")).ok()
        await view.come_in()
        for kind in ("gateways", "approvals"):
            for replica in live[kind]:
                row = view.page.locator(f"#{kind} tr", has_text=replica["bootId"][:8])
                await view.sees(row, replica["version"])
                await view.sees(row, re.compile(r"\d+ (second|minute)s?"))
