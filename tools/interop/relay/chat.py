"""A chat in two browsers, one at each gateway. Each method is one case."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from services.gateway import log_events
from shared.protocol.closing import CloseCode
from tools.interop.cases import Case
from tools.interop.facts import Facts, Unexpected, either
from tools.interop.relay.setup import Relayed, until
from tools.interop.ui.scenario import CONNECTED, CONTROL_UI
from tools.support.actors import log_lines

if TYPE_CHECKING:
    from pathlib import Path

    from tools.interop.relay.setup import Setup
    from tools.interop.ui.browser import Browser, Page

AT_ONCE_SECONDS: Final = 1.0
GONE_SECONDS: Final = 10.0
"""Maximum time until a device is removed upstream; gateways spread their calls."""
FIRST_SECONDS: Final = 60.0
"""Maximum time for the first answer, for which the upstream loads its agent."""
SHOWN_SECONDS: Final = 30.0
"""Maximum time until a page shows a message or an answer."""
BACK_SECONDS: Final = 5.0
"""How long to watch a page of a removed device; it retries about every second."""
HINT_SECONDS: Final = 1.0
"""Maximum time for a button's tooltip to fade."""
IDLE_SECONDS: Final = 30.0
"""Maximum time until a page shows that the agent has finished its previous answer."""
SENT_SECONDS: Final = 120.0
"""Maximum time from the click until the upstream has accepted a message.

A dashboard that takes its agent to be busy keeps a message in a queue of its own for some 40 s, also
without a gateway in front of OpenClaw.
"""
_DONE: Final = "output tokens"
_COMPOSER: Final = 'textarea[aria-label="Chat composer"]'
_SEND: Final = 'button.chat-send-btn--send[aria-label="Send message"]:not([disabled])'
"""The button as it is when a click sends. While an answer arrives, it has another label."""
_QUEUE: Final = ".chat-queue__item"
_ASK_AGAIN: Final = "Approve this browser|pairing required"


class ChatScenario:
    """The owners of two browsers, who use the same agent."""

    def __init__(self, setup: Setup, browser: Browser) -> None:
        self._setup = setup
        self._browser = browser
        self._pages: list[Page] = []
        self._devices: list[str] = []

    async def opened(self) -> Facts:
        """Open a browser at each gateway, and approve both."""
        for number in range(2):
            await self._open(number)
        return "Connected", "Connected"

    async def devices(self) -> Facts:
        """Show the page of devices: both are listed as connected, and no others.

        One more is paired with us that the upstream has never seen.
        """
        setup, page = self._setup, self._pages[0]
        away = Relayed(setup.stack, address="198.51.100.60")
        (await setup.operator.approve(await away.request_pairing(setup.gateways[1]))).ok()
        try:
            await page.go(f"{setup.gateways[0].url}/settings/devices")
            for device_id in self._devices:
                await page.see("^connected$", selector=_row(device_id), seconds=SHOWN_SECONDS)
            await page.see("^offline$", selector=_row(away.device_id), seconds=SHOWN_SECONDS)
            known = "".join(f":not({_row(one)})" for one in (*self._devices, away.device_id))
            # The upstream's own machine has an entry too, without a menu.
            await page.see(
                selector=f".device-entry:has(.device-entry__menu-trigger){known}", gone=True
            )
        finally:
            await page.go(f"{setup.gateways[0].url}/chat")
            await page.see(selector=_COMPOSER, seconds=SHOWN_SECONDS)
        return "both connected", "one offline", "no others"

    async def streamed(self) -> Facts:
        """Send a message; the answer appears word by word, before its last word is sent."""
        provider, (page, other) = self._setup.provider, self._pages
        provider.answer = "Every word comes by itself, up to the very last."
        provider.hold()
        try:
            await self._say(page, "How do words come?")
            await asyncio.gather(
                *(each.see("up to the very$", seconds=FIRST_SECONDS) for each in (page, other))
            )
        finally:
            provider.go_on()
        for each in (page, other):
            await each.see("up to the very last.$", seconds=SHOWN_SECONDS)
        await other.see("How do words come", seconds=SHOWN_SECONDS)
        return "words as they come", "to the last", "at the other gateway too"

    async def answered_there(self) -> Facts:
        """Send a message in the other browser."""
        self._setup.provider.answer = "It does indeed go both ways."
        page, other = self._pages
        await self._say(other, "And from here?")
        await page.see("And from here", seconds=SHOWN_SECONDS)
        await page.see("go both ways.$", seconds=SHOWN_SECONDS)
        return ("seen in the first",)

    async def reloaded(self) -> Facts:
        """Reload the page: the history is there."""
        page = self._pages[0]
        so_far = len(page.admissions)
        await page.reload()
        await page.admitted(after=so_far)
        for text in ("How do words come", "very last.$", "And from here", "both ways.$"):
            await page.see(text, seconds=SHOWN_SECONDS)
        return ("all of it",)

    async def revoked(self) -> Facts:
        """Remove the second browser's device while it receives an answer."""
        setup, (page, other) = self._setup, self._pages
        device, gateway = self._devices[1], setup.gateways[1]
        if device not in await setup.present_upstream():
            raise Unexpected("the browser is not present upstream")
        setup.provider.answer = "This will be cut off before its end."
        setup.provider.hold()
        try:
            await self._say(page, "What will be cut?")
            await other.see("cut off before its$", seconds=SHOWN_SECONDS)
            closes, admissions, begin = len(other.closes), len(other.admissions), datetime.now(UTC)
            (await setup.operator.remove(device)).ok()
            await until(lambda: len(other.closes) > closes, "the page's socket closed")
        finally:
            setup.provider.go_on()
        await page.see("before its end.$", seconds=SHOWN_SECONDS)
        closed = await until(
            lambda: log_lines(gateway, log_events.DISCONNECTED.name, device=device), "its log line"
        )
        # Logged once the browser has answered the close. The page hears of it later, when it is busy.
        took = (datetime.fromisoformat(closed[-1]["timestamp"]) - begin).total_seconds()
        code = f"{closed[-1]['code']} {closed[-1]['reason']}"
        await other.see(_ASK_AGAIN, seconds=SHOWN_SECONDS)
        await asyncio.sleep(BACK_SECONDS)
        back = len(other.admissions) > admissions
        await until(self._gone_upstream, "the upstream forgets it", seconds=GONE_SECONDS)
        return (
            either(code == f"{CloseCode.DEVICE_REMOVED:d} device removed", "4001", code),
            either(took < AT_ONCE_SECONDS, "within a second", f"after {took:.1f} s"),
            either(back, "it came back", "no way back"),
            "gone upstream",
        )

    async def picture(self, path: Path) -> None:
        """Write a screenshot of a chat."""
        page = await self._open(0)
        provider = self._setup.provider
        await page.click("button.invite__close")
        provider.answer = (
            "It checks every device that connects, at any number of gateways, and lets only those "
            "through that you have approved. Everything else you see here is your own OpenClaw: "
            "its dashboard, its sessions, its agents."
        )
        await self._say(page, "What does Latchkey do for us?")
        await page.see(_DONE, seconds=FIRST_SECONDS)
        provider.answer = (
            "At once, at every gateway. Its chat ends in the middle of a word, and it has to ask "
            "for approval again."
        )
        await self._say(page, "And when I remove a device?")
        await page.see("approval again.$", seconds=SHOWN_SECONDS)
        await page.see(_DONE, seconds=SHOWN_SECONDS)
        await page.click(_COMPOSER)  # away from the button, which shows a tooltip
        await asyncio.sleep(HINT_SECONDS)
        await page.picture(path)

    async def _open(self, number: int) -> Page:
        """Open a browser at a gateway, approve it, and show the chat."""
        setup = self._setup
        site = setup.gateways[number].url
        url = f"{site}/chat#token={setup.stack.gateway_token}"
        page = await setup.ending.enter_async_context(self._browser.profile(url))
        request = await setup.request_of(CONTROL_UI)
        (await setup.operator.approve(request["requestId"])).ok()
        await page.see(CONNECTED, seconds=SHOWN_SECONDS)
        await page.see(selector=_COMPOSER, seconds=SHOWN_SECONDS)
        self._pages.append(page)
        self._devices.append(request["deviceId"])
        return page

    async def _say(self, page: Page, text: str) -> None:
        """Send a message, once. Raises Unexpected if the page does not send it, or is refused.

        A message that the page has sent is accepted by the upstream from here on: wherever it is
        missing later, it was lost. While the page takes the agent to be busy, it would keep the
        message in a queue of its own.
        """
        await page.idle(seconds=IDLE_SECONDS)
        await page.fill(_COMPOSER, text)
        await page.see(selector=_SEND, seconds=IDLE_SECONDS)
        await page.click(_SEND)
        try:
            message = await page.sends(text, seconds=SENT_SECONDS)
        except Unexpected as error:
            where = "in its own queue" if await _is_queued(page, text) else "nowhere"
            raise Unexpected(f"{error}, and keeps it {where}") from None
        if message.error is not None:
            raise Unexpected(f"the upstream refuses {text!r}: {message.error}")

    async def _gone_upstream(self) -> bool:
        device, setup = self._devices[1], self._setup
        return (
            device not in await setup.present_upstream()
            and device not in await setup.known_upstream()
        )


async def _is_queued(page: Page, text: str) -> bool:
    try:
        await page.see(re.escape(text), selector=_QUEUE, seconds=HINT_SECONDS)
    except Unexpected:
        return False
    return True


def _row(device_id: str) -> str:
    return f'.device-entry:has([title="{device_id}"])'


CASES: Final = (
    Case("two browsers, two gateways", ChatScenario.opened, ("Connected", "Connected")),
    Case(
        "/settings/devices",
        ChatScenario.devices,
        ("both connected", "one offline", "no others"),
    ),
    Case(
        "a message",
        ChatScenario.streamed,
        ("words as they come", "to the last", "at the other gateway too"),
    ),
    Case("a message in the other", ChatScenario.answered_there, ("seen in the first",)),
    Case("history after a reload", ChatScenario.reloaded, ("all of it",)),
    Case(
        "removed while chatting",
        ChatScenario.revoked,
        ("4001", "within a second", "no way back", "gone upstream"),
    ),
)
