"""Members of a real bus, each with its own connections, secret and boot id, as in the services."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from shared.bus.channels import EVENTS, ask_channel, inbox_channel, new_boot_id
from shared.bus.envelope import Envelope, Opened
from shared.bus.errors import Unavailable
from shared.bus.redis_bus import SILENCE_SECONDS, RedisBus
from shared.clock import SystemClock
from shared.redis.access import RedisAccess
from shared.rpc.codec import encode
from shared.rpc.requester import Requester
from shared.rpc.responder import Question, Reply, Responder
from shared.rpc.responder_pool import ResponderPool
from tests.unit.rpc.fake_bus import Counts
from tools.support.handlers import calling_back
from tools.support.publishing import published
from tools.support.waiting import WAIT_SECONDS, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from shared.bus.errors import Rejected

SECRET = "a secret of at least thirty-two characters"
ALIVE_SECONDS = 0.1


class Member:
    """One process on the bus: listens on its own channel and to events, and announces itself.

    It does so every ALIVE_SECONDS instead of every second, to keep tests short.
    """

    own_channel = staticmethod(inbox_channel)

    def __init__(
        self,
        url: str,
        *,
        secrets: Sequence[str] = (SECRET,),
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        self.boot_id = new_boot_id()
        self.envelope = Envelope(secrets, self.boot_id)
        self.channel = self.own_channel(self.boot_id)
        self.messages: list[tuple[str, bytes]] = []
        self.rejected: list[str] = []
        self.subscribed = 0
        self.publishing = 0
        self.count = Counts()
        self.counts = self.count.of
        self.bus = RedisBus(
            RedisAccess(url),
            self.envelope,
            on_subscribed=self.on_subscribed,
            on_publishing=self.on_publishing,
            on_rejected=self.on_rejected,
            clock=SystemClock(),
            count=self.count,
            silence_seconds=silence_seconds,
        )
        for channel in (self.channel, EVENTS):
            self.bus.subscribe(channel, partial(self.on_message, channel))

    @property
    def ok(self) -> bool:
        return self.bus.status()[0]

    def on_message(self, channel: str, message: Opened) -> None:
        self.messages.append((channel, message.body))

    def on_subscribed(self) -> None:
        self.subscribed += 1

    def on_publishing(self) -> None:
        self.publishing += 1

    def on_rejected(self, rejected: Rejected) -> None:
        self.rejected.append(rejected.why)

    def bodies(self, channel: str | None = None) -> list[bytes]:
        return [body for where, body in self.messages if where == (channel or self.channel)]

    async def publish(self, channel: str, body: bytes) -> int:
        return await published(self.bus.send, channel, self.envelope.seal(channel, body))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Member]:
        await self.bus.start()
        try:
            yield self
        finally:
            await self.bus.stop()


@asynccontextmanager
async def member(url: str, **options: Any) -> AsyncIterator[Member]:
    """Join, and wait until the subscription is active."""
    async with Member(url, **options).running() as peer:
        await until(lambda: peer.ok, "subscribed")
        yield peer


class Approval(Member):
    """Answers every request with the request and its own boot id, after `self.seconds`."""

    own_channel = staticmethod(ask_channel)

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self.seconds = 0.0
        self.responder = Responder(self.bus.send, self.envelope, calling_back(self._handle))
        self.handled = 0

    async def _handle(self, questions: list[Question]) -> list[Reply]:
        self.handled += len(questions)
        if self.seconds:
            await asyncio.sleep(self.seconds)
        return [encode([msgspec.msgpack.decode(q.body), self.boot_id]) for q in questions]

    def on_message(self, channel: str, message: Opened) -> None:
        if channel != EVENTS:
            self.responder.deliver(message)


class Gateway(Member):
    """Asks the approval replicas that announce themselves."""

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self.responders = ResponderPool(SystemClock())
        self.requester = Requester(
            self.bus.send,
            self.envelope,
            self.responders,
            SystemClock(),
            count=self.count,
            bus_ok=lambda: self.ok,
        )

    async def ask(self, question: object) -> Any:
        return msgspec.msgpack.decode(await self.requester.ask(encode(question)))

    def on_message(self, channel: str, message: Opened) -> None:
        if channel == EVENTS:
            self.responders.seen(message.sender)
        else:
            self.requester.deliver(message)


@asynccontextmanager
async def announced(*approvals: Approval) -> AsyncIterator[None]:
    """Announce approvals as alive while this context lasts."""

    async def announce() -> None:
        while True:
            for approval in approvals:
                with suppress(Unavailable):
                    await approval.publish(EVENTS, b"alive")
            await asyncio.sleep(ALIVE_SECONDS)

    task = asyncio.create_task(announce())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until_heard(peer: Member, body: bytes) -> None:
    """Publish events until one arrives, as a replica that announces itself does."""

    async def heard() -> None:
        while body not in peer.bodies(EVENTS):
            try:
                await peer.publish(EVENTS, body)
            except Unavailable:
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.01)

    await asyncio.wait_for(heard(), WAIT_SECONDS)


async def until_holds(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a condition that is checked over the network."""

    async def holds() -> None:
        while not await condition():  # noqa: ASYNC110  what happens in Redis sets no event here
            await asyncio.sleep(0.02)

    await asyncio.wait_for(holds(), WAIT_SECONDS)
