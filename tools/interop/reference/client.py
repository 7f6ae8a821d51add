"""The reference client: `driver.mjs` in a Node.js process, and its callbacks."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tools.interop.driver import WAIT_SECONDS, Driver, Event, driving
from tools.interop.facts import Unexpected

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PROGRAM: Final = Path(__file__).parent / "driver.mjs"


class Client:
    """A client. `heard` lists its callbacks in order."""

    def __init__(self, driver: Driver, number: int) -> None:
        self.heard: Final[list[Event]] = []
        self._driver = driver
        self._number = number
        self._more = asyncio.Event()

    def hear(self, event: Event) -> None:
        """Record a callback."""
        self.heard.append(event)
        self._more.set()

    def all(self, name: str) -> list[Event]:
        """Return all calls of one callback so far."""
        return [event for event in self.heard if event["event"] == name]

    async def next(self, *names: str, after: int = 0) -> Event:
        """Return the first of these callbacks from number `after` on. Raises Unexpected."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while True:
                    for event in self.heard[after:]:
                        if event["event"] in names:
                            return event
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            received = ", ".join(event["event"] for event in self.heard[after:]) or "nothing"
            raise Unexpected(f"no {' or '.join(names)} but {received}") from None

    async def hello(self, *, after: int = 0) -> Event:
        """Return hello-ok. Raises Unexpected if it was refused first."""
        event = await self.next("helloOk", "connectError", after=after)
        if event["event"] == "connectError":
            raise Unexpected(f"refused: {event['message']}")
        hello: Event = event["hello"]
        return hello

    async def refusal(self, *, after: int = 0) -> Event:
        """Return the error of a refused connect, once its socket is closed. Raises Unexpected."""
        event = await self.next("helloOk", "connectError", after=after)
        if event["event"] == "helloOk":
            raise Unexpected("admitted")
        await self.next("close", after=self.heard.index(event))
        return event

    async def request(self, method: str) -> Any:
        """Send a request. Raises Unexpected for an error."""
        return await self._driver.ask("request", client=self._number, method=method)

    async def stop(self) -> None:
        """Stop it and wait until its socket is closed."""
        await self._driver.ask("stop", client=self._number)


class Device:
    """A key pair and the device tokens stored with it."""

    def __init__(self, reference: Reference, number: int, device_id: str) -> None:
        self.id: Final = device_id
        self._reference = reference
        self._number = number

    async def copy(self) -> Device:
        """Return the same device with a token store of its own, like another program's."""
        return await self._reference.device(like=self._number)

    async def connect(self, *, tampered: bool = False, **options: Any) -> Client:
        """Start a client with these options; `tampered`: change one bit of each signature."""
        return await self._reference.connect(self._number, options, tampered=tampered)

    async def stored(self, role: str) -> str | None:
        """Return the stored device token for a role."""
        record = await self._reference.driver.ask("stored", device=self._number, role=role)
        return None if record is None else record["token"]


class Reference:
    """All clients and devices. `name`, `version` and `node` describe the program."""

    def __init__(self, driver: Driver) -> None:
        self.name: Final[str] = driver.started["name"]
        self.version: Final[str] = driver.started["version"]
        self.node: Final[str] = driver.started["node"]
        self.driver: Final = driver
        self._clients: dict[int, Client] = {}
        driver.hear = lambda event: self._client(event["client"]).hear(event)

    async def device(self, *, like: int = 0) -> Device:
        """Return a new device, or a copy of one."""
        made = await self.driver.ask("device", like=like)
        return Device(self, made["device"], made["deviceId"])

    async def connect(self, device: int, options: Event, *, tampered: bool) -> Client:
        """Start a client."""
        made = await self.driver.ask("connect", device=device, options=options, tampered=tampered)
        return self._client(made["client"])

    def _client(self, number: int) -> Client:
        # Its first callback may arrive before the response to "connect".
        return self._clients.setdefault(number, Client(self.driver, number))


@asynccontextmanager
async def reference_client() -> AsyncIterator[Reference]:
    """Start the driver; stop it with all its clients on exit. Raises Unexpected."""
    async with driving(PROGRAM) as driver:
        yield Reference(driver)
