"""Cards on the page stay current when requests are withdrawn or decided elsewhere."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from shared.device.profile import CLI, NODE_HOST
from tests.browser.screens import SEE_MS, screen
from tools.support.people import Operator, Visitor

if TYPE_CHECKING:
    from playwright.async_api import Browser

    from tools.support.stack import Stack

ADMIN = ("operator.read", "operator.admin")


async def test_a_card_says_that_its_device_has_left_and_was_removed(
    browser: Browser, stack: Stack
) -> None:
    visitor = Visitor(stack, replace(CLI, display_name="Leaver"))
    async with screen(browser, stack) as one:
        await one.come_in()
        card = one.request(await visitor.waits(stack.gateways[0]))
        await card.get_by_role("button", name="Approve").click()
        await one.sees(card, "Approved.")
        for _ in range(2):
            client, _ = await visitor.stays(stack.gateways[0])
            await one.sees(card, "Online at")
            await one.sees(one.device(visitor.device_id), "Online at")
            await client.close()
            await one.sees(card, re.compile("Admitted .* after approval, and disconnected since"))
            await expect(card).not_to_contain_text("Online")
            await one.sees(one.device(visitor.device_id), "Offline")
        async with Operator(stack, stack.approvals[1]) as operator:
            (await operator.remove(visitor.device_id)).ok()
        await one.sees(card, "It was approved and has since been removed.")
        await expect(one.device(visitor.device_id)).to_have_count(0)


async def test_a_card_says_that_its_access_was_revoked(browser: Browser, stack: Stack) -> None:
    visitor = Visitor(stack, replace(CLI, display_name="Barred"))
    async with screen(browser, stack) as one:
        await one.come_in()
        card = one.request(await visitor.waits(stack.gateways[0]))
        await card.get_by_role("button", name="Approve").click()
        client, _ = await visitor.stays(stack.gateways[1])
        async with client:
            await one.sees(card, "Online at")
            await one.act(visitor.device_id, "Revoke")
            await one.confirm("Revoke")
        await one.sees(card, "its access has since been revoked")


async def test_the_newest_is_first(browser: Browser, stack: Stack) -> None:
    async with screen(browser, stack) as one:
        await one.come_in()
        ids = [await Visitor(stack).waits(stack.gateways[0]) for _ in range(3)]
        await expect(one.request(ids[-1])).to_be_visible(timeout=SEE_MS)
        shown = await one.page.locator("[data-request]").evaluate_all(
            "all => all.map(one => one.dataset.request)"
        )
        assert [request_id for request_id in shown if request_id in ids] == ids[::-1]


class TestAdmin:
    """Granting full control needs a second, explicit confirmation."""

    async def test_it_is_given_only_after_a_second_yes(
        self, browser: Browser, stack: Stack
    ) -> None:
        visitor = Visitor(stack, replace(CLI, display_name="Root")).asking(*ADMIN)
        async with screen(browser, stack) as one:
            await one.come_in()
            card = one.request(await visitor.waits(stack.gateways[0]))
            approve = card.get_by_role("button", name="Approve")
            await approve.click()
            dialog = one.page.get_by_role("dialog")
            for said in ("Give full control to Root?", "operator.admin", "commands run on"):
                await one.sees(dialog, said)
            await expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
            await one.page.keyboard.press("Escape")
            await expect(approve).to_be_visible()
            await expect(approve).to_be_focused()
            assert (await visitor.refused(stack.gateways[0])).detail_code == "PAIRING_REQUIRED"
            await one.page.keyboard.press("Enter")
            await one.confirm("Approve with full control")
            await one.sees(card, "Approved.")
            assert "operator.admin" in (await visitor.visits(stack.gateways[0])).scopes

    async def test_so_it_is_when_an_approval_would_give_it_back(
        self, browser: Browser, stack: Stack
    ) -> None:
        visitor = Visitor(stack, replace(CLI, display_name="Once root")).asking(*ADMIN)
        async with Operator(stack, stack.approvals[0]) as operator, screen(browser, stack) as one:
            (await operator.approve(await visitor.waits(stack.gateways[0]))).ok()
            await visitor.visits(stack.gateways[0])
            (await operator.revoke(visitor.device_id, "operator")).ok()
            reader = visitor.asking("operator.read")
            await one.come_in()
            card = one.request(await reader.waits(stack.gateways[0]))
            await card.get_by_role("button", name="Approve").click()
            await one.sees(one.page.get_by_role("dialog"), "restores operator.admin")
            await one.confirm("Approve with full control")
            await one.sees(card, "Approved.")


class TestDialogs:
    """The subject of a dialog may end while the dialog is open."""

    async def test_a_request_that_is_superseded_can_no_longer_be_approved(
        self, browser: Browser, stack: Stack
    ) -> None:
        visitor = Visitor(stack, replace(CLI, display_name="Changing")).asking("operator.admin")
        async with screen(browser, stack) as one:
            await one.come_in()
            card = one.request(await visitor.waits(stack.gateways[0]))
            await card.get_by_role("button", name="Approve").click()
            dialog = one.page.get_by_role("dialog")
            yes = dialog.get_by_role("button", name="Approve with full control")
            await expect(yes).to_be_visible()
            node = replace(visitor, profile=NODE_HOST)
            wider = await node.waits(stack.gateways[0])
            await one.sees(dialog, "The device has since made another request")
            await expect(yes).to_have_count(0)
            await dialog.get_by_role("button", name="Close").click()
            await expect(one.request(wider).get_by_role("button", name="Approve")).to_be_visible()

    async def test_a_device_that_was_removed_elsewhere_can_no_longer_be_renamed(
        self, browser: Browser, stack: Stack
    ) -> None:
        visitor = Visitor(stack, replace(CLI, display_name="Gone"))
        async with Operator(stack, stack.approvals[1]) as operator, screen(browser, stack) as one:
            (await operator.approve(await visitor.waits(stack.gateways[0]))).ok()
            await one.come_in()
            await one.act(visitor.device_id, "Rename")
            dialog = one.page.get_by_role("dialog")
            (await operator.remove(visitor.device_id)).ok()
            await one.sees(dialog, "This device is no longer paired.")
            await expect(dialog.get_by_role("button", name="Rename")).to_have_count(0)

    async def test_a_blank_name_is_refused_in_words(self, browser: Browser, stack: Stack) -> None:
        visitor = Visitor(stack, replace(CLI, display_name="Named"))
        async with Operator(stack, stack.approvals[0]) as operator, screen(browser, stack) as one:
            (await operator.approve(await visitor.waits(stack.gateways[0]))).ok()
            await one.come_in()
            await one.act(visitor.device_id, "Rename")
            dialog = one.page.get_by_role("dialog")
            for blank in ("", "   "):
                await one.page.get_by_label("New name").fill(blank)
                await dialog.get_by_role("button", name="Rename").click()
                await one.sees(dialog, "A name has 1 to 64 characters and is not blank.")
            await one.page.get_by_label("New name").fill("  Hall  ")
            await one.confirm("Rename")
            await one.sees(one.device(visitor.device_id).get_by_role("heading", level=3), "Hall")


@pytest.mark.timeout(120)
async def test_in_an_outage_no_card_claims_to_know(browser: Browser, stack: Stack) -> None:
    visitor = Visitor(stack, replace(CLI, display_name="Stays through"))
    async with Operator(stack, stack.approvals[0]) as operator:
        (await operator.approve(await visitor.waits(stack.gateways[0]))).ok()
    client, _ = await visitor.stays(stack.gateways[0])
    async with client, screen(browser, stack) as one:
        await one.come_in()
        device = one.device(visitor.device_id)
        await one.sees(device, "Online at")
        stack.approvals[0].kill9()
        await one.sees(device, re.compile(r"Online at .*, as of \d\d:\d\d:\d\d"))
        stack.approvals[0].start()
        await one.is_live()
        await expect(device).not_to_contain_text("as of", timeout=SEE_MS)
        await one.sees(device, "Online at")
    await stack.approvals[0].until_ready()


async def test_each_replica_tells_its_release_and_how_long_it_has_been_running(
    browser: Browser, stack: Stack
) -> None:
    async with Operator(stack, stack.approvals[0]) as operator, screen(browser, stack) as one:
        live = (await operator.call("GET", "replicas")).ok()
        await one.come_in()
        for kind in ("gateways", "approvals"):
            for replica in live[kind]:
                row = one.page.locator(f"#{kind} tr", has_text=replica["bootId"][:8])
                await one.sees(row, replica["version"])
                await one.sees(row, re.compile(r"\d+ (second|minute)s?"))
