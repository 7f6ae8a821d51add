"""The reference client: `driver.mjs` in a Node.js of its own, and what its callbacks say."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HERE: Final = Path(__file__).parent
NODE: Final = HERE / "node_modules" / ".bin" / "node"
DRIVER: Final = HERE / "driver.mjs"
# The client itself gives the challenge 15 s and waits at most a few between its attempts.
WAIT_SECONDS: Final = 20.0
STOP_SECONDS: Final = 5.0
LINE_BYTES_MOST: Final = 1 << 20

Event = dict[str, Any]


class Unexpected(Exception):
    """The client did something else than the story has, or nothing; the message says what."""


class Client:
    """One started client. `heard` is all that it called back, in order."""

    def __init__(self, driver: Driver, number: int) -> None:
        self.heard: Final[list[Event]] = []
        self._driver = driver
        self._number = number
        self._more = asyncio.Event()

    def hear(self, event: Event) -> None:
        """Keep what it called back."""
        self.heard.append(event)
        self._more.set()

    def all(self, name: str) -> list[Event]:
        """Return all calls of one callback so far."""
        return [event for event in self.heard if event["event"] == name]

    async def next(self, *names: str, after: int = 0) -> Event:
        """Return the first call of these callbacks, from number `after` on. Raises Unexpected."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while True:
                    for event in self.heard[after:]:
                        if event["event"] in names:
                            return event
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            told = ", ".join(event["event"] for event in self.heard[after:]) or "nothing"
            raise Unexpected(f"no {' or '.join(names)} but {told}") from None

    async def hello(self, *, after: int = 0) -> Event:
        """Return hello-ok. Raises Unexpected when it was refused first."""
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
        """Make a request. Raises Unexpected for an error."""
        return await self._driver.ask("request", client=self._number, method=method)

    async def stop(self) -> None:
        """Stop it and wait until its socket is closed."""
        await self._driver.ask("stop", client=self._number)


class Device:
    """A key pair and the device tokens stored beside it."""

    def __init__(self, driver: Driver, number: int, device_id: str) -> None:
        self.id: Final = device_id
        self._driver = driver
        self._number = number

    async def copy(self) -> Device:
        """Return the same device with a store of its own, as another program on it would have."""
        return await self._driver.device(like=self._number)

    async def connect(self, *, tampered: bool = False, **options: Any) -> Client:
        """Start a client with these options of its own; `tampered`: one bit of each signature."""
        return await self._driver.connect(self._number, options, tampered=tampered)

    async def stored(self, role: str) -> str | None:
        """Return the device token that the client has stored for a role."""
        record = await self._driver.ask("stored", device=self._number, role=role)
        return None if record is None else record["token"]


class Driver:
    """The running driver. `name`, `version` and `node` say what is run."""

    def __init__(self, process: asyncio.subprocess.Process, started: Event) -> None:
        self.name: Final[str] = started["name"]
        self.version: Final[str] = started["version"]
        self.node: Final[str] = started["node"]
        self._process = process
        self._ids = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Event]] = {}
        self._clients: dict[int, Client] = {}
        self._ended = False

    async def device(self, *, like: int = 0) -> Device:
        """Return a new device, or a copy of one."""
        made = await self.ask("device", like=like)
        return Device(self, made["device"], made["deviceId"])

    async def connect(self, device: int, options: Event, *, tampered: bool) -> Client:
        """Start a client."""
        made = await self.ask("connect", device=device, options=options, tampered=tampered)
        return self._client(made["client"])

    async def ask(self, do: str, **rest: Any) -> Any:
        """Give a command and return its answer. Raises Unexpected."""
        if self._ended:
            raise Unexpected("the driver has ended")
        number = next(self._ids)
        future = self._asked[number] = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": number, "do": do, **rest}).encode() + b"\n")
        try:
            answer = await asyncio.wait_for(future, WAIT_SECONDS)
        except TimeoutError:
            raise Unexpected(f"no answer to {do}") from None
        finally:
            del self._asked[number]
        if "error" in answer:
            raise Unexpected(f"{do}: {answer['error']['message']}")
        return answer["ok"]

    async def read(self) -> None:
        """Hand on what it says until it ends."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            said: Event = json.loads(line)
            if "id" not in said:
                self._client(said["client"]).hear(said)
            elif future := self._asked.get(said["id"]):
                future.set_result(said)
        self._ended = True
        for future in self._asked.values():
            future.set_exception(Unexpected("the driver has ended"))

    def _client(self, number: int) -> Client:
        # Its first callback may be told before the answer to "connect".
        return self._clients.setdefault(number, Client(self, number))


@asynccontextmanager
async def reference_client() -> AsyncIterator[Driver]:
    """Start the driver; end it, and with it all its clients. Raises Unexpected."""
    process = await asyncio.create_subprocess_exec(
        *(str(NODE), str(DRIVER)),
        env={name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LINE_BYTES_MOST,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        started = await process.stdout.readline()
        if not started:
            raise Unexpected("the driver did not start")
        driver = Driver(process, json.loads(started))
        reading = asyncio.create_task(driver.read())
        try:
            yield driver
        finally:
            process.stdin.close()
            await asyncio.wait([reading], timeout=STOP_SECONDS)
            reading.cancel()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
