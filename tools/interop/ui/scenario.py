"""What users see in the dashboard, in one browser and then in two.

Each method is one case and returns the facts it observed.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

from tools.interop.facts import Facts, Unexpected, either, where
from tools.interop.peer import Peer

if TYPE_CHECKING:
    from contextlib import AsyncExitStack
    from pathlib import Path

    from tools.interop.latchkey import Latchkey
    from tools.interop.ui.browser import Browser, Page

AT_ONCE_SECONDS: Final = 1.0
# A connection reaches a random gateway; so many misses in a row are not random.
MAX_MENUS: Final = 3
"""How often a menu that closed is opened again."""
MENU_SECONDS: Final = 3.0
MAX_LOADS: Final = 20
LABEL: Final = "Kitchen"
CONTROL_UI: Final = "openclaw-control-ui"

CONNECTED: Final = "^Connected$"
ONLINE: Final = "^Gateway status: Online$"


class UiScenario:
    """The owner of one or two browsers, and the devices of others."""

    def __init__(self, latchkey: Latchkey, browser: Browser, ending: AsyncExitStack) -> None:
        self._latchkey = latchkey
        self._browser = browser
        self._ending = ending
        self._site = latchkey.gateway.replace("ws://", "http://")
        self._pages: list[Page] = []
        self._owners: list[str] = []
        self._peer = Peer(latchkey)

    # One browser.

    async def opened(self) -> Facts:
        """Open the dashboard in a new browser: protocol 4's shows the request id."""
        page, request = await self._opened()
        await page.see("^Approve this browser$")
        await page.see(request["requestId"])
        return "Approve this browser", "names the request"

    async def approved(self) -> Facts:
        """Approve it over HTTP without touching the page."""
        status = await self._approve_browser()
        await self._page.see(CONNECTED)
        return f"HTTP {status}", "Connected by itself"

    async def opened_3(self) -> Facts:
        """Open the dashboard in a new browser: protocol 3's shows only that pairing is required."""
        page, _ = await self._opened()
        await page.see("pairing required")
        return ("pairing required",)

    async def approved_3(self) -> Facts:
        """Approve it over HTTP, and reload the page."""
        status = await self._approve_browser()
        await self._page.reload()
        await self._page.see(ONLINE)
        return f"HTTP {status}", "Online after a reload"

    async def revoked(self) -> Facts:
        """Revoke the browser's token over HTTP."""
        path = f"/v1/devices/{self._owners[0]}/tokens/operator/revoke"
        return await self._closed_by("POST", path, CONNECTED)

    async def removed_3(self) -> Facts:
        """Remove the browser over HTTP."""
        return await self._closed_by("DELETE", f"/v1/devices/{self._owners[0]}", ONLINE)

    # The device page, in two browsers.

    async def devices_listed(self) -> Facts:
        """Open the device page at its own address."""
        await self._next_peer().approved()
        await self._page.go(f"{self._site}/settings/devices")
        await self._page.see("^connected$", selector=_row(self._owners[0]))
        await self._page.see("^offline$", selector=_row(self._peer.device_id))
        return "itself connected", "another offline"

    async def second_browser(self) -> Facts:
        """Approve a second browser in the first one."""
        page, request = await self._opened()
        await page.see("^Approve this browser$")
        took = await self._page.see(selector=_pending(request["deviceId"]))
        await self._page.click(_button(request["deviceId"], "Approve"))
        await page.see(CONNECTED)
        self._owners.append(request["deviceId"])
        return _at_once(took, "shown"), "approved by a click", "Connected by itself"

    async def at_both_gateways(self) -> Facts:
        """Have both browsers show the device page, each at another gateway."""
        first, second = self._pages
        replicas = {first.admissions[-1]}
        for _ in range(MAX_LOADS):
            so_far = len(second.admissions)
            await second.go(f"{self._site}/settings/devices")
            replicas.add(await second.admitted(after=so_far))
            if len(replicas) > 1:
                break
        await second.see(selector=_row(self._owners[0]))
        return (where(replicas),)

    async def asked(self) -> Facts:
        """Have a device request access, and check both browsers."""
        peer = self._next_peer()
        await peer.ask()
        pending = _pending(peer.device_id)
        took = await asyncio.gather(*(page.see(selector=pending) for page in self._pages))
        return (_at_once(max(took), "shown at both"),)

    async def approved_by_click(self) -> Facts:
        """Approve it in one browser, and check the other one."""
        device_id = self._peer.device_id
        await self._page.click(_button(device_id, "Approve"))
        first = await self._page.see(selector=_pending(device_id), gone=True)
        other = await self._pages[1].see(selector=_pending(device_id), gone=True)
        await self._pages[1].see(selector=_row(device_id))
        await self._peer.come_in()
        return _at_once(max(first, other), "paired at both"), "its device comes in"

    async def renamed_by_click(self) -> Facts:
        """Rename it in one browser, and check the other one."""
        device_id = self._peer.device_id
        await self._choose(device_id, "editAlias")
        await self._page.fill("openclaw-modal-dialog input", LABEL)
        await self._page.click("openclaw-modal-dialog button.primary")
        named = f"^{LABEL}$"
        took = [await page.see(named, selector=_row(device_id)) for page in self._pages]
        _, device = await self._latchkey.call("GET", f"/v1/devices/{device_id}")
        received = device.get("operatorLabel") == LABEL
        return _at_once(max(took), "shown at both"), either(
            received, "named over HTTP", "not named"
        )

    async def removed_by_click(self) -> Facts:
        """Remove it in one browser."""
        device_id = self._peer.device_id
        await self._choose(device_id, "remove")
        await self._page.click("openclaw-modal-dialog button.danger")
        closed = await self._peer.closed()
        await self._page.see(selector=_row(device_id), gone=True)
        status, _ = await self._latchkey.call("GET", f"/v1/devices/{device_id}")
        return closed, "gone", f"HTTP {status}"

    async def picture(self, path: Path) -> None:
        """Write a screenshot of the device page: one device connected, one pending."""
        await self.opened()
        await self.approved()
        laptop, phone = self._next_peer("Laptop"), self._next_peer("Phone")
        await laptop.approved()
        await laptop.come_in()
        await phone.ask()
        await self._page.go(f"{self._site}/settings/devices")
        await self._page.see("^connected$", selector=_row(laptop.device_id))
        await self._page.see(selector=_pending(phone.device_id))
        await self._page.picture(path)

    # Building blocks.

    @property
    def _page(self) -> Page:
        """The first browser's page."""
        if not self._pages:
            raise Unexpected("no page is open")
        return self._pages[0]

    async def _opened(self) -> tuple[Page, dict[str, Any]]:
        """Open the dashboard in a new browser; return the page and its request."""
        known = await self._browser_requests()
        url = f"{self._site}/#token={self._latchkey.gateway_token}"
        page = await self._ending.enter_async_context(self._browser.profile(url))
        self._pages.append(page)
        await page.see("pairing required|Approve this browser")
        new = [request for request in await self._browser_requests() if request not in known]
        return page, new[0]

    async def _browser_requests(self) -> list[dict[str, Any]]:
        _, waiting = await self._latchkey.call("GET", "/v1/requests")
        return [request for request in waiting["pending"] if request["clientId"] == CONTROL_UI]

    async def _approve_browser(self) -> int:
        request = (await self._browser_requests())[0]
        self._owners.append(request["deviceId"])
        return await self._latchkey.approve(request["requestId"])

    async def _closed_by(self, method: str, path: str, shown: str) -> Facts:
        """Call the HTTP API and check how that closes the first browser's connection."""
        begin = time.monotonic()
        status, _ = await self._latchkey.call(method, path)
        closed = await self._page.closed() - begin
        await self._page.see(shown, gone=True)
        return f"HTTP {status}", _at_once(closed, "disconnected")

    async def _choose(self, device_id: str, action: str) -> None:
        """Choose an action in a device's menu on the first browser's page.

        An open menu may close when the list changes. Open it again then, as a person would.
        """
        item = f'{_row(device_id)} wa-dropdown-item[value="{action}"]'
        for attempts_left in range(MAX_MENUS, -1, -1):
            await self._page.click(f"{_row(device_id)} .device-entry__menu-trigger")
            try:
                await self._page.click(item, seconds=MENU_SECONDS)
            except Unexpected:
                if not attempts_left:
                    raise
            else:
                return

    def _next_peer(self, name: str = "") -> Peer:
        self._peer = Peer(self._latchkey, name)
        self._ending.push_async_exit(self._peer)
        return self._peer


def _row(device_id: str) -> str:
    return f'.device-entry:has([title="{device_id}"])'


def _pending(device_id: str) -> str:
    """Return a selector for the row of a pending device, which has a reject button."""
    return f"{_row(device_id)} .settings-row__control > button"


def _button(device_id: str, text: str) -> str:
    return f"{_pending(device_id)}::-p-text({text})"


def _at_once(seconds: float, description: str) -> str:
    return (
        f"{description} at once"
        if seconds < AT_ONCE_SECONDS
        else f"{description} after {seconds:.1f} s"
    )
