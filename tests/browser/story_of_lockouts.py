"""The page shows that an address is locked out, and an operator lifts the lock-out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from services.approval.domain.lockout import FAILURES_LIMIT
from shared.device.client import DeviceClient
from shared.device.handshake import Admitted, Refused
from shared.device.profile import CLI
from tests.browser.screens import DESKTOP, PHONE, SEE_MS, screen
from tests.browser.story_in_pictures import AXE, check, no_wider_than_the_window

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.async_api import Browser

    from tools.support.processes.stack import Stack

HERE = "shared-secret 127.0.0.1"


async def comes(stack: Stack, number: int, token: str) -> Admitted | Refused:
    """Connect to one of the gateways with this gateway token and no device."""
    gateway = stack.gateways[number % len(stack.gateways)]
    async with DeviceClient(gateway.ws_url, None, CLI, token=token) as client:
        return await client.connect()


@pytest.mark.parametrize("look", ["light", "dark", "phone"])
async def test_a_lock_out_is_shown_and_lifted(
    browser: Browser, stack: Stack, tmp_path: Path, look: str
) -> None:
    viewport = PHONE if look == "phone" else DESKTOP
    scheme = "dark" if look == "dark" else "light"
    async with screen(browser, stack, viewport=viewport, color_scheme=scheme) as view:
        await view.page.add_init_script(path=AXE)
        await view.come_in()
        section = view.page.locator("#lockouts-section")
        await expect(section).to_be_hidden()
        for number in range(FAILURES_LIMIT):
            await comes(stack, number, f"a stale token, {look} {number}")
        refused = await comes(stack, 0, stack.gateway_token)
        assert isinstance(refused, Refused)
        assert refused.detail_code == "AUTH_RATE_LIMITED"
        card = view.page.locator(f'[data-lockout="{HERE}"]')
        await view.sees(card, "127.0.0.1")
        await view.sees(card, "Gateway token")
        await view.sees(card, "10 different wrong values")
        await view.sees(card, "for another 4 minutes")
        await section.scroll_into_view_if_needed()
        await view.picture(tmp_path / f"lockout-{look}.png")
        await check(view)
        await no_wider_than_the_window(view)
        await card.get_by_role("button", name="Lift lock-out: 127.0.0.1, Gateway token").click()
        await view.sees(view.page.get_by_role("dialog"), "at every replica")
        await view.picture(tmp_path / f"dialog-{look}.png")
        await view.confirm("Lift lock-out")
        await expect(section).to_be_hidden(timeout=SEE_MS)
        await view.sees(
            view.page.locator("#audit li").first, "A lock-out was lifted by operator admin"
        )
        for number in range(len(stack.gateways)):
            assert isinstance(await comes(stack, number, stack.gateway_token), Admitted)
