"""Named operators and approval rules on the page, and what a permission hides."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from shared.device.handshake import Admitted
from shared.device.profile import NODE_HOST
from tests.browser.screens import DESKTOP, PHONE, SEE_MS, screen
from tests.browser.story_in_pictures import AXE, check, no_wider_than_the_window
from tools.support.actors import Operator, SimulatedDevice

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.async_api import Browser

    from tools.support.processes.stack import Stack


@pytest.mark.parametrize("look", ["light", "dark", "phone"])
async def test_an_operator_is_created_signs_in_and_is_revoked(
    browser: Browser, stack: Stack, tmp_path: Path, look: str
) -> None:
    east, west = stack.approvals
    viewport = PHONE if look == "phone" else DESKTOP
    scheme = "dark" if look == "dark" else "light"
    name = f"viewer-{look}"
    device = SimulatedDevice(stack)
    request_id = await device.request_pairing(stack.gateways[0])
    async with (
        screen(browser, stack, east, viewport=viewport, color_scheme=scheme) as view,
        screen(browser, stack, west) as other,
    ):
        await view.page.add_init_script(path=AXE)
        await view.come_in()
        await view.sees(view.page.locator("#who"), "admin (may manage)")
        page = view.page
        await page.get_by_text("Create an operator").click()
        await page.locator("#operator-name").fill(name)
        await page.locator("#operator-days").fill("30")
        await page.get_by_role("button", name="Create operator").click()
        card = page.locator(f'[data-operator="{name}"]')
        await view.sees(card, "May see everything on this page.")
        await view.sees(page.locator("#operator-token"), f"lko_{name}_")
        token = await page.locator("#operator-token").text_content()
        assert token
        await page.locator("#operator-form").scroll_into_view_if_needed()
        await check(view)
        await no_wider_than_the_window(view)
        await view.picture(tmp_path / f"operators-{look}.png")
        await other.open()
        await other.sign_in(token)
        await other.is_live()
        await other.sees(other.page.locator("#who"), f"{name} (may view)")
        waiting = other.request(request_id)
        await expect(waiting).to_be_visible(timeout=SEE_MS)
        await expect(waiting.get_by_role("button", name="Approve")).to_have_count(0)
        await expect(other.page.locator("#operators-heading")).to_be_hidden()
        await expect(view.request(request_id).get_by_role("button", name="Approve")).to_have_count(
            1
        )
        await card.get_by_role("button", name=f"Revoke: {name}").click()
        await view.confirm("Revoke")
        await expect(card).to_have_count(0, timeout=SEE_MS)
        await other.sees(other.page.locator("#sign-in"), "Your session has ended.")
        await view.sees(page.locator("#audit"), "An operator was revoked by operator admin")


async def test_a_rule_is_tried_added_used_and_removed(
    browser: Browser, stack: Stack, tmp_path: Path
) -> None:
    node = SimulatedDevice(stack, NODE_HOST)
    await node.request_pairing(stack.gateways[0])
    async with screen(browser, stack) as view, Operator(stack, stack.approvals[1]) as operator:
        await view.page.add_init_script(path=AXE)
        await view.come_in()
        page = view.page
        await view.sees(page.locator("#no-rules"), "a person approves every device")
        await page.get_by_text("Add a rule").click()
        await page.locator("#rule-name").fill("kiosks")
        await page.locator("#rule-networks").fill("127.0.0.1/8")
        await page.locator("#rule-count").fill("2")
        add = page.get_by_role("button", name="Try and add")
        await add.click()
        await view.sees(page.locator("#rule-problem"), "must be written '127.0.0.0/8'")
        await page.locator("#rule-networks").fill("127.0.0.0/8")
        await add.click()
        dialog = page.get_by_role("dialog")
        await view.sees(dialog, "it would approve 1")
        await view.picture(tmp_path / "rule-trial.png")
        assert (await operator.call("GET", "rules")).ok() == {"rules": []}
        await view.confirm("Add rule")
        card = page.locator('[data-rule="kiosks"]')
        await view.sees(card, "Used 0 of 2 times")
        await check(view)
        await no_wider_than_the_window(view)
        for _ in range(50):
            async with node.client(stack.gateways[0]) as client:
                if isinstance(await client.connect(), Admitted):
                    break
        await view.sees(card, "Used 1 of 2 times")
        await view.sees(page.locator("#audit"), "was approved by rule kiosks")
        await card.scroll_into_view_if_needed()
        await view.picture(tmp_path / "rules.png")
        await card.get_by_role("button", name="Remove rule: kiosks").click()
        await view.confirm("Remove")
        await expect(card).to_have_count(0, timeout=SEE_MS)
        await view.sees(page.locator("#audit"), "A rule was removed by operator admin")
