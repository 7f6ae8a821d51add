"""A browser: `driver.mjs` in a Node.js process, with profiles and pages."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tools.interop.driver import WAIT_SECONDS, Driver, Event, driving
from tools.interop.facts import Unexpected, replica

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PROGRAM: Final = Path(__file__).parent / "driver.mjs"
SEE_SECONDS: Final = 10.0
LOAD_SECONDS: Final = 60.0
"""Maximum time to load a page with all its files; on a busy machine that takes a while."""


@dataclass(slots=True)
class SentMessage:
    """A chat message that a page sent on its socket."""

    call: str
    text: str
    answered: bool = False
    error: Event | None = None


class Page:
    """One page. `admissions` are the replicas that admitted its socket, in order."""

    def __init__(self, driver: Driver, number: int) -> None:
        self.admissions: Final[list[str]] = []
        self.closes: Final[list[float]] = []
        self.sent: Final[list[SentMessage]] = []
        self._agent_is_busy = False
        self._driver = driver
        self._number = number
        self._more = asyncio.Event()

    def hear(self, event: Event) -> None:
        """Record an event of its socket."""
        match event["event"]:
            case "admitted":
                self.admissions.append(replica(event["connection"]))
            case "closed":
                self.closes.append(event["at"])
            case "agent":
                self._agent_is_busy = event["busy"]
            case "sent":
                self.sent.append(SentMessage(event["call"], event["text"]))
            case "answered":
                message = next(one for one in self.sent if one.call == event["call"])
                message.answered, message.error = True, event["error"]
        self._more.set()

    async def go(self, url: str) -> None:
        """Navigate to another address."""
        await self._driver.ask("go", page=self._number, url=url, within=LOAD_SECONDS)

    async def reload(self) -> None:
        """Reload the page."""
        await self._driver.ask("reload", page=self._number, within=LOAD_SECONDS)

    async def see(
        self,
        pattern: str = "",
        *,
        selector: str = "",
        gone: bool = False,
        seconds: float = SEE_SECONDS,
    ) -> float:
        """Wait until a text or title matches; return the seconds it took.

        With a selector: inside such an element, or only such an element; `gone`: until nothing
        matches. Raises Unexpected.
        """
        begin = time.monotonic()
        try:
            await self._driver.ask(
                "see",
                within=seconds + WAIT_SECONDS,
                page=self._number,
                selector=selector,
                pattern=pattern,
                gone=gone,
                seconds=seconds,
            )
        except Unexpected:
            label = " ".join(part for part in (selector, pattern) if part)
            raise Unexpected(
                f"{'still' if gone else 'no'} {label} on page {self._number}"
            ) from None
        return time.monotonic() - begin

    async def click(self, selector: str, *, seconds: float = WAIT_SECONDS) -> None:
        """Click it as soon as it can be clicked, within so many seconds. Raises Unexpected."""
        await self._driver.ask(
            "click",
            page=self._number,
            selector=selector,
            timeout=seconds * 1000,
            within=seconds + WAIT_SECONDS,
        )

    async def fill(self, selector: str, text: str) -> None:
        """Enter a text. Raises Unexpected."""
        await self._driver.ask(
            "fill", page=self._number, selector=selector, text=text, within=2 * WAIT_SECONDS
        )

    async def read(self, selector: str) -> str:
        """Return the text of an element, as soon as there is one. Raises Unexpected."""
        text: str = await self._driver.ask(
            "read", page=self._number, selector=selector, within=2 * WAIT_SECONDS
        )
        return text

    async def picture(self, path: Path) -> None:
        """Write a screenshot (PNG)."""
        await self._driver.ask("picture", page=self._number, path=str(path))

    async def admitted(self, *, after: int = 0) -> str:
        """Return the replica that admitted it, the first one after `after`. Raises Unexpected."""
        while len(self.admissions) <= after:
            await self._happening("admitted")
        return self.admissions[after]

    async def idle(self, *, seconds: float = SEE_SECONDS) -> None:
        """Wait until the page has been told that its agent is not busy. Raises Unexpected."""
        deadline = time.monotonic() + seconds
        while self._agent_is_busy:
            if not await self._something(deadline):
                raise Unexpected(f"page {self._number} still takes its agent to be busy")

    async def sends(self, text: str, *, seconds: float = SEE_SECONDS) -> SentMessage:
        """Return the chat message with this text, once its socket sent it and got the answer.

        The newest one, if there are several. Raises Unexpected.
        """
        deadline = time.monotonic() + seconds
        while True:
            message = next((one for one in reversed(self.sent) if one.text == text), None)
            if message is not None and message.answered:
                return message
            if not await self._something(deadline):
                what = "did not send" if message is None else "got no answer to"
                raise Unexpected(f"page {self._number} {what} {text!r}")

    async def closed(self) -> float:
        """Return when its socket was closed (monotonic seconds). Raises Unexpected."""
        while not self.closes:
            await self._happening("closed")
        return self.closes[-1]

    async def _something(self, deadline: float) -> bool:
        """Wait for the next event; False if there is none by the deadline (monotonic seconds)."""
        self._more.clear()
        try:
            await asyncio.wait_for(self._more.wait(), max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            return False
        return True

    async def _happening(self, description: str) -> None:
        self._more.clear()
        try:
            await asyncio.wait_for(self._more.wait(), WAIT_SECONDS)
        except TimeoutError:
            raise Unexpected(f"the page's socket was not {description}") from None


class Browser:
    """The running browser. `name` includes its version."""

    def __init__(self, driver: Driver) -> None:
        self.name: Final[str] = f"{driver.started['browser']}, {driver.started['driver']}"
        self._driver = driver
        self._pages: dict[int, Page] = {}
        driver.hear = lambda event: self._page(event["page"]).hear(event)

    @asynccontextmanager
    async def profile(self, url: str) -> AsyncIterator[Page]:
        """Open a page in a new profile, which is deleted with all its storage on exit."""
        profile = (await self._driver.ask("profile"))["profile"]
        try:
            opened = await self._driver.ask("open", profile=profile, url=url, within=LOAD_SECONDS)
            yield self._page(opened["page"])
        finally:
            await self._driver.ask("forget", profile=profile)

    def _page(self, number: int) -> Page:
        # An event may arrive before the response to "open".
        return self._pages.setdefault(number, Page(self._driver, number))


@asynccontextmanager
async def browsing(chromium: str) -> AsyncIterator[Browser]:
    """Start the browser; close it with all its pages on exit. Raises Unexpected."""
    async with driving(PROGRAM, {"CHROMIUM": chromium}) as driver:
        yield Browser(driver)
