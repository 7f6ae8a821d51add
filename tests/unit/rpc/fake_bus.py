"""An in-process replacement for Redis pub/sub, with approval replicas that may misbehave."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from shared.bus.channels import ask_channel, inbox_channel, new_boot_id
from shared.bus.envelope import Envelope, Opened
from shared.bus.errors import Unavailable
from shared.bus.publisher import OutgoingMessage
from shared.rpc.codec import Answers, Item, ItemAnswer, decode_questions, encode
from shared.rpc.requester import Requester
from shared.rpc.responder_pool import ResponderPool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.support.clock import FakeClock

SECRET = "a secret of at least thirty-two characters"


def reasons(results: Sequence[object]) -> Counter[tuple[str, str]]:
    """Count the reasons; fails if one of the results is not Unavailable."""
    assert all(isinstance(result, Unavailable) for result in results)
    return Counter((r.reason, r.dependency) for r in results if isinstance(r, Unavailable))


class Counts:
    """A `Count` that can be read."""

    def __init__(self) -> None:
        self.of: Counter[tuple[str, ...]] = Counter()

    def __call__(self, name: str, amount: int = 1, **labels: str) -> None:
        self.of[name, *labels.values()] += amount

    def adder(self, name: str) -> Callable[[int], object]:
        return partial(self, name)


class Switchboard:
    """Delivers messages in the loop iteration after they were published."""

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes]] = []
        self.redis_down = False
        self.redis_hangs = False
        self._listeners: dict[str, list[Callable[[bytes], None]]] = defaultdict(list)

    def listen(self, channel: str, listener: Callable[[bytes], None]) -> None:
        self._listeners[channel].append(listener)

    def send(
        self, channel: str, data: bytes, then: Callable[[int | Unavailable], object]
    ) -> OutgoingMessage:
        loop = asyncio.get_running_loop()
        self.published.append((channel, data))
        message = OutgoingMessage(channel, data, then)

        def confirm(result: int | Unavailable) -> None:
            if message.then is not None:
                message.then(result)

        if self.redis_hangs:
            return message
        if self.redis_down:
            loop.call_soon(confirm, Unavailable("redis"))
            return message
        listeners = self._listeners[channel]
        for listener in listeners:
            loop.call_soon(listener, data)
        loop.call_soon(confirm, len(listeners))
        return message


class Approval:
    """An approval replica: answers each question with its own text and who answered."""

    def __init__(self, board: Switchboard, name: str) -> None:
        self.boot_id = name
        self.envelope = Envelope([SECRET], name)
        self.asked: list[list[Item]] = []
        self.manner: Callable[[str, list[Item]], None] = self.answer
        self._board = board

    def join(self) -> Approval:
        channel = ask_channel(self.boot_id)

        def take(data: bytes) -> None:
            message = self.envelope.open(channel, data)
            items = decode_questions(message.body).items
            self.asked.append(items)
            self.manner(message.sender, items)

        self._board.listen(channel, take)
        return self

    def answer(self, gateway: str, items: list[Item]) -> None:
        self.reply(gateway, [ItemAnswer(i.id, "ok", self.text_of(i)) for i in items])

    def busy(self, gateway: str, items: list[Item]) -> None:
        self.reply(gateway, [ItemAnswer(i.id, "busy") for i in items])

    def silent(self, gateway: str, items: list[Item]) -> None:
        """Give no answer."""

    def half(self, gateway: str, items: list[Item]) -> None:
        """Answer every second request, and be busy for every fourth."""
        self.answer(gateway, items[::2])
        self.busy(gateway, items[1::4])

    def slow(self, seconds: float) -> Approval:
        def later(gateway: str, items: list[Item]) -> None:
            asyncio.get_running_loop().call_later(seconds, self.answer, gateway, items)

        self.manner = later
        return self

    def text_of(self, item: Item) -> msgspec.Raw:
        asked = msgspec.msgpack.decode(item.body)
        return msgspec.Raw(encode([asked, self.boot_id]))

    def reply(self, gateway: str, answers: list[ItemAnswer]) -> None:
        self.send(gateway, encode(Answers(answers)))

    def send(self, gateway: str, body: bytes) -> None:
        channel = inbox_channel(gateway)
        self._board.send(channel, self.envelope.seal(channel, body), lambda _count: None)


class Gateway:
    """A requester with its inbox on the switchboard, and some known approval replicas."""

    def __init__(self, clock: FakeClock, approvals: int = 1, **settings: float) -> None:
        self.clock = clock
        self.board = Switchboard()
        self.counts = Counts()
        self.boot_id = new_boot_id()
        self.envelope = Envelope([SECRET], self.boot_id)
        self.responders = ResponderPool(clock)
        self.redis_ok = True
        self.requester = Requester(
            self.board.send,
            self.envelope,
            self.responders,
            clock,
            count=self.counts,
            bus_ok=lambda: self.redis_ok,
            **settings,  # type: ignore[arg-type]  # the numbers among the settings
        )
        self.opened: list[Opened] = []
        self.board.listen(inbox_channel(self.boot_id), self._take)
        self.approvals = [Approval(self.board, f"approval-{n}").join() for n in range(approvals)]
        for approval in self.approvals:
            self.responders.seen(approval.boot_id)

    def _take(self, data: bytes) -> None:
        message = self.envelope.open(inbox_channel(self.boot_id), data)
        self.opened.append(message)
        self.requester.deliver(message)

    def hear_all(self) -> None:
        """Announce each approval replica each second, forever."""
        for approval in self.approvals:
            self.responders.seen(approval.boot_id)
        asyncio.get_running_loop().call_later(1.0, self.hear_all)

    async def ask(self, question: object) -> Any:
        answer = await self.requester.ask(encode(question))
        return msgspec.msgpack.decode(answer)

    def questions_published(self) -> list[str]:
        return [channel for channel, _ in self.board.published if ":ask:" in channel]
