"""The other side of the bus for tests: a scripted approval, and a gateway that asks.

They use the services' own bus code, so they act like real replicas; `version` makes them use
another release's envelope.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import msgspec

from shared.bus.channels import EVENTS, ask_channel, inbox_channel, new_boot_id
from shared.bus.envelope import VERSION, Envelope
from shared.bus.redis_bus import RedisBus
from shared.clock import NS_PER_MS, SystemClock
from shared.redis.access import RedisAccess
from shared.rpc.messages import (
    Admitted,
    Alive,
    Answer,
    AuthorizeDevice,
    Changed,
    HeartbeatAnswer,
    HeartbeatQuestion,
    NeedsPairing,
    Position,
    ReportSecret,
    SecretAccepted,
    decode_answer,
    decode_event,
    decode_question,
    encode,
)
from shared.rpc.requester import Requester
from shared.rpc.responder import Responder
from shared.rpc.responder_pool import ResponderPool
from tools.support.handlers import calling_back
from tools.support.publishing import published
from tools.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from shared.bus.envelope import Opened
    from shared.bus.errors import Rejected
    from shared.rpc.messages import Event
    from shared.rpc.responder import Question, Reply

ALIVE_SECONDS = 1.0
HEAD = Position(1, "t")
"""The initial position of a scripted approval's history."""
DEVICE_TOKEN = "the-device-token-that-approval-derives-1234"
REQUEST_ID = "220dd984-79b3-4860-a084-c16f321f9dec"


async def admit(question: AuthorizeDevice) -> Answer:
    """Admit every device."""
    return Admitted(HEAD, DEVICE_TOKEN, sorted(question.scopes), 1_700_000_000_000)


async def want_pairing(_question: AuthorizeDevice) -> Answer:
    """Require approval for every device."""
    return NeedsPairing(HEAD, "not-paired", REQUEST_ID)


class Counts(dict[str, int]):
    """The counters of the bus, by name and labels joined with `-`."""

    def __call__(self, name: str, amount: int = 1, **labels: str) -> None:
        """Add to a counter."""
        key = "-".join([name, *labels.values()])
        self[key] = self.get(key, 0) + amount

    def adder(self, name: str) -> Callable[[int], object]:
        """Return a function that adds to a counter without labels."""
        return partial(self, name)


class _Peer:
    """Common parts: a boot id, an envelope and a bus; `rejected` lists rejected messages."""

    def __init__(
        self, redis_url: str, bus_secret: str, boot_id: str | None, version: int, own: str
    ) -> None:
        self.boot_id = boot_id or new_boot_id()
        self.envelope = Envelope((bus_secret,), self.boot_id, version)
        self.rejected: list[Rejected] = []
        self._subscribed = asyncio.Event()
        self.bus = RedisBus(
            RedisAccess(redis_url),
            self.envelope,
            on_subscribed=self._subscribed.set,
            on_rejected=self.rejected.append,
            clock=SystemClock(),
        )
        for channel in (own, EVENTS):
            self.bus.subscribe(channel, partial(self._on_message, channel))

    def _on_message(self, channel: str, message: Opened) -> None:
        raise NotImplementedError

    def publish(self, channel: str, body: bytes) -> asyncio.Future[int]:
        """Publish a message sealed by this peer."""
        return published(self.bus.send, channel, self.envelope.seal(channel, body))

    async def _start(self) -> None:
        await self.bus.start()
        await until(self._subscribed.is_set, "the subscription is confirmed")


class FakeApproval(_Peer):
    """Announces itself each second and answers with `answer`; `asked` lists the questions.

    It locks nobody out, and nothing changes unless a test says so.
    """

    def __init__(
        self,
        redis_url: str,
        bus_secret: str,
        *,
        boot_id: str | None = None,
        version: int = VERSION,
        base: Position = HEAD,
    ) -> None:
        boot_id = boot_id or new_boot_id()
        super().__init__(redis_url, bus_secret, boot_id, version, ask_channel(boot_id))
        self.base = base
        """Start of its history: the store's head, beside real approvals."""
        self.asked: list[AuthorizeDevice] = []
        self.reports: list[ReportSecret] = []
        self.beats: list[HeartbeatQuestion] = []
        self.history: list[Changed] = []
        self.messages = 0
        """Messages of questions, not counting heartbeats."""
        self.routine = 0
        """Messages published without any client: alive events, and heartbeats with their answers.
        """
        self.answer: Callable[[AuthorizeDevice], Awaitable[Answer]] = admit
        self.responder = Responder(self.bus.send, self.envelope, calling_back(self._handle))
        self._announcing: asyncio.Task[None] | None = None

    @property
    def head(self) -> Position:
        """The head of its history."""
        return self.history[-1].change if self.history else self.base

    async def change(
        self, device_id: str, closes: Sequence[str] = ("*",), *, tell: bool = True
    ) -> Changed:
        """Add a change that closes a device; heartbeats report it, and with `tell` an event."""
        head = self.head
        at = Position(head.number + 1, secrets.token_hex(4))
        changed = Changed(at, head.tag, device_id, "removed", 0, list(closes))
        self.history.append(changed)
        if tell:
            await self.tell(changed)
        return changed

    async def tell(self, event: Event) -> None:
        """Publish an event and wait until Redis has it."""
        await self.publish(EVENTS, encode(event))

    async def __aenter__(self) -> Self:
        await self._start()
        self._announcing = asyncio.create_task(self._announce())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._announcing is not None:
            self._announcing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._announcing
        await self.responder.stop()
        await self.bus.stop()

    async def _announce(self) -> None:
        while True:
            self.routine += 1
            await self.tell(Alive(self.boot_id))
            await asyncio.sleep(ALIVE_SECONDS)

    def _on_message(self, channel: str, message: Opened) -> None:
        if channel != EVENTS:
            self.responder.deliver(message)

    async def _handle(self, questions: Sequence[Question]) -> list[Reply]:
        asked = [decode_question(question.body) for question in questions]
        if all(isinstance(request, HeartbeatQuestion) for request in asked):
            self.routine += 2
        else:
            self.messages += 1
        return [await self._reply(request) for request in asked]

    async def _reply(self, asked: AuthorizeDevice | ReportSecret | HeartbeatQuestion) -> Reply:
        if isinstance(asked, HeartbeatQuestion):
            self.beats.append(asked)
            history = [self.base, *(change.change for change in self.history)]
            known = asked.booted and asked.applied in history
            missed = [
                change for change in self.history if change.change.number > asked.applied.number
            ]
            return encode(
                HeartbeatAnswer(
                    asked.heartbeat_id,
                    self.head,
                    SystemClock().wall_ns() // NS_PER_MS,
                    asked.heartbeat_id,
                    resync=not known,
                    changes=missed if known else [],
                )
            )
        if isinstance(asked, ReportSecret):
            self.reports.append(asked)
            return encode(SecretAccepted(self.base))
        self.asked.append(asked)
        answer = await self.answer(asked)
        if answer.change == HEAD:
            answer = msgspec.structs.replace(answer, change=self.base)
        return encode(answer)


class FakeGateway(_Peer):
    """Asks any approval it has seen; `events` lists the events it received."""

    def __init__(
        self,
        redis_url: str,
        bus_secret: str,
        *,
        boot_id: str | None = None,
        version: int = VERSION,
    ) -> None:
        boot_id = boot_id or new_boot_id()
        super().__init__(redis_url, bus_secret, boot_id, version, inbox_channel(boot_id))
        self.events: list[Event] = []
        self.counts = Counts()
        self.responders = ResponderPool(SystemClock())
        self.requester = Requester(
            self.bus.send, self.envelope, self.responders, SystemClock(), count=self.counts
        )

    async def ask(self, question: AuthorizeDevice) -> Any:
        """Return the answer; raises Unavailable."""
        return decode_answer(await self.requester.ask(msgspec.Raw(encode(question))))

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.requester.stop()
        await self.bus.stop()

    def _on_message(self, channel: str, message: Opened) -> None:
        if channel != EVENTS:
            self.requester.deliver(message)
            return
        event = decode_event(message.body)
        self.events.append(event)
        if isinstance(event, Alive):
            self.responders.seen(event.boot_id)
