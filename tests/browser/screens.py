"""Page objects for the operators' page: what a person does and sees there."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from playwright.async_api import async_playwright, expect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from playwright.async_api import Browser, BrowserContext, Locator, Page

    from tools.support.processes.service import ServiceProcess
    from tools.support.processes.stack import Stack

MISSING: Final = (
    "make browser needs Chromium, and there is none on PATH or where CHROMIUM points.\n"
    "Install it: apt install chromium, or brew install --cask chromium"
)
SEE_MS: Final = 20_000
DESKTOP: Final = {"width": 1120, "height": 900}
PHONE: Final = {"width": 360, "height": 740}
_OF_OUTAGES: Final = "Failed to load resource"


@asynccontextmanager
async def browsing(chromium: str) -> AsyncIterator[Browser]:
    """Run a browser; closing it closes all its pages."""
    alone = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=alone)
        try:
            yield browser
        finally:
            await browser.close()


class Screen:
    """One browser window of an operator. `complaints` collects its console's errors."""

    def __init__(self, page: Page, approval: ServiceProcess, admin_token: str) -> None:
        self.page: Final = page
        self.complaints: Final[list[str]] = []
        self._approval = approval
        self._admin_token = admin_token
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._heard)

    def _heard(self, message: Any) -> None:
        if message.type in {"error", "warning"} and _OF_OUTAGES not in message.text:
            self.complaints.append(message.text)

    async def open(self) -> None:
        """Open the page."""
        await self.page.goto(f"{self._approval.url}/setup")

    async def sign_in(self, token: str | None = None) -> None:
        """Sign in with the admin token, or another."""
        await self.page.get_by_label("Operator token").fill(token or self._admin_token)
        await self.page.get_by_role("button", name="Sign in").click()

    async def come_in(self) -> None:
        """Open the page, sign in, and wait until it is live."""
        await self.open()
        await self.sign_in()
        await self.is_live()

    async def is_live(self) -> None:
        """Wait until the page shows that it receives live events."""
        await self.sees(self.page.locator("#state"), "Live")

    def request(self, request_id: str) -> Locator:
        """Return the card of a request."""
        return self.page.locator(f'[data-request="{request_id}"]')

    def device(self, device_id: str) -> Locator:
        """Return the card of a paired device."""
        return self.page.locator(f'[data-device="{device_id}"]')

    async def act(self, device_id: str, description: str) -> None:
        """Open a device's details, and press one of its buttons."""
        card = self.device(device_id)
        if not await card.locator("details").evaluate("one => one.open"):
            await card.locator("summary").click()
        await card.get_by_role("button", name=description).click()

    async def confirm(self, description: str) -> None:
        """Confirm the dialog."""
        dialog = self.page.get_by_role("dialog")
        await dialog.get_by_role("button", name=description, exact=True).click()
        await expect(dialog).to_be_hidden(timeout=SEE_MS)

    async def sees(self, where: Locator, text: Any) -> None:
        """Wait until an element shows this text."""
        await expect(where).to_contain_text(text, timeout=SEE_MS)

    async def picture(self, path: Path) -> None:
        """Save a screenshot of the visible part of the page."""
        await self.page.screenshot(path=path, animations="disabled")


@asynccontextmanager
async def screen(
    browser: Browser, stack: Stack, approval: ServiceProcess | None = None, **context: Any
) -> AsyncIterator[Screen]:
    """Open a window with its own profile; an error on the console fails the test."""
    profile: BrowserContext = await browser.new_context(**{"viewport": DESKTOP, **context})
    try:
        view = Screen(await profile.new_page(), approval or stack.approvals[0], stack.admin_token)
        yield view
        assert view.complaints == []
    finally:
        await profile.close()
