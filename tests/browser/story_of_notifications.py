"""A link opens and highlights a request, the browser notifies, and targets can be tested."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from shared.device.profile import CLI
from tests.browser.screens import SEE_MS, screen
from tests.browser.story_in_pictures import AXE, LOOKS, check, no_wider_than_the_window
from tests.support.webhook_receiver import Receiver, new_secret
from tools.support.actors import SimulatedDevice

if TYPE_CHECKING:
    from playwright.async_api import Browser

    from tools.support.processes.stack import Stack

LINKED = re.compile(r"\blinked\b")
RECORDING = """
window.notices = [];
window.Notification = class extends Notification {
  constructor(title, options) {
    super(title, options);
    window.notices.push({ title, body: options.body, notice: this });
  }
};
"""


async def test_a_link_highlights_its_request(browser: Browser, stack: Stack) -> None:
    request_id = await SimulatedDevice(stack, CLI).request_pairing(stack.gateways[0])
    async with screen(browser, stack) as view:
        await view.page.goto(f"{stack.approvals[0].url}/setup#request={request_id}")
        await view.sign_in()
        await view.is_live()
        await expect(view.request(request_id)).to_have_class(LINKED, timeout=SEE_MS)
        await expect(view.request(request_id)).to_be_in_viewport()
        await view.page.evaluate("location.hash = 'request=no-such-request'")
        await view.sees(view.page.locator("#linked-note"), "no longer pending")
        await expect(view.request(request_id)).not_to_have_class(LINKED)
        await view.page.evaluate("location.hash = 'device=%3Cimg%20src%3Dx%3E'")
        await expect(view.page.locator("#linked-note")).to_be_empty()


async def test_the_browser_notifies_once_it_was_switched_on(browser: Browser, stack: Stack) -> None:
    named = replace(CLI, display_name="Porch\u202e camera")
    async with screen(browser, stack, permissions=["notifications"]) as view:
        await view.page.add_init_script(RECORDING)
        await view.come_in()
        await view.page.evaluate("document.hasFocus = () => false")
        before = await SimulatedDevice(stack, named).request_pairing(stack.gateways[0])
        await expect(view.request(before)).to_be_visible(timeout=SEE_MS)
        assert await view.page.evaluate("window.notices.length") == 0
        await view.page.get_by_label("Notify me in this browser").check()
        after = await SimulatedDevice(stack, named).request_pairing(stack.gateways[0])
        await expect(view.request(after)).to_be_visible(timeout=SEE_MS)
        await view.page.wait_for_function("window.notices.length === 1", timeout=SEE_MS)
        notice = await view.page.evaluate("({ ...window.notices[0], notice: null })")
        assert notice["title"] == "A device is waiting for approval"
        assert "Porch camera" in notice["body"]
        await view.page.evaluate("window.notices[0].notice.onclick()")
        await expect(view.request(after)).to_have_class(LINKED, timeout=SEE_MS)


async def test_without_permission_it_stays_off(browser: Browser, stack: Stack) -> None:
    async with screen(browser, stack) as view:
        await view.come_in()
        box = view.page.get_by_label("Notify me in this browser")
        await expect(box).not_to_be_checked()
        await box.click()
        await view.sees(view.page.locator("#notify-problem"), "does not allow notifications")
        await expect(box).not_to_be_checked()


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("status", [200, 500])
async def test_a_target_is_tested_on_the_page(
    browser: Browser, stack: Stack, status: int, look: str
) -> None:
    """The section has no accessibility problem, whatever it shows."""
    async with Receiver(new_secret()) as receiver:
        receiver.behaviour = status
        approval = stack.add_approval(
            WEBHOOK_TARGETS=f"json+{receiver.url('hidden')}",
            WEBHOOK_SECRETS=receiver.secrets[0],
            WEBHOOK_PRIVATE_ADDRESSES="yes",
        )
        try:
            async with screen(browser, stack, approval, **LOOKS[look]) as view:
                await view.page.add_init_script(path=AXE)
                await view.come_in()
                row = view.page.locator('[data-webhook="json-1"]')
                await view.sees(row, f"127.0.0.1:{receiver.port}")
                await row.get_by_role("button", name="Send a test notification to json-1").click()
                await receiver.until(lambda: bool(receiver.received))
                await view.sees(row, "Healthy" if status == 200 else "Failing: HTTP 500")
                assert f"{receiver.port}/hidden" not in await view.page.content()
                await view.page.get_by_label("Notify me in this browser").click()
                await view.sees(
                    view.page.locator("#notify-problem"), "does not allow notifications"
                )
                await view.page.evaluate("location.hash = 'request=no-such-request'")
                await view.sees(view.page.locator("#linked-note"), "no longer pending")
                await check(view)
                await no_wider_than_the_window(view)
        finally:
            approval.terminate()
            approval.wait_ended()
