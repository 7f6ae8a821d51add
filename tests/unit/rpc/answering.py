"""A responder with a scripted handler."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import msgspec

from shared.bus.channels import ask_channel, inbox_channel
from shared.bus.envelope import Envelope, Opened
from shared.rpc.codec import Item, ItemAnswer, Questions, decode_answers, encode
from shared.rpc.responder import Question, Reply, Responder
from tests.unit.rpc.fake_bus import SECRET, Counts, Switchboard
from tools.support.handlers import calling_back

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence


class Approval:
    """A responder with a scripted handler, and the inboxes of its requesters."""

    def __init__(self, **settings: float) -> None:
        self.board = Switchboard()
        self.counts = Counts()
        self.envelope = Envelope([SECRET], "approval")
        self.handled: list[list[Question]] = []
        self.replies: Sequence[Reply | asyncio.Future[Reply]] | Exception | None = None
        self.gate: asyncio.Event | None = None
        self.inboxes: dict[str, list[list[ItemAnswer]]] = defaultdict(list)
        self.responder = Responder(
            self.board.send,
            self.envelope,
            calling_back(self.handle),
            count=self.counts,
            **settings,  # type: ignore[arg-type]  # the numbers among the settings
        )
        self._gateways: dict[str, Envelope] = {}

    async def handle(self, questions: list[Question]) -> Sequence[Reply | asyncio.Future[Reply]]:
        self.handled.append(questions)
        if self.gate:
            await self.gate.wait()
        if isinstance(self.replies, Exception):
            raise self.replies
        if self.replies is not None:
            return self.replies
        return [encode([msgspec.msgpack.decode(q.body), q.sender]) for q in questions]

    def ask(self, *bodies: object, gateway: str = "gateway") -> None:
        items = [Item(n, msgspec.Raw(encode(body))) for n, body in enumerate(bodies)]
        self.take(encode(Questions(items)), gateway)

    def take(self, body: bytes, gateway: str = "gateway") -> None:
        if gateway not in self._gateways:
            self._gateways[gateway] = Envelope([SECRET], gateway)
            self.board.listen(inbox_channel(gateway), lambda data: self._receive(gateway, data))
        channel = ask_channel("approval")
        sealed = self._gateways[gateway].seal(channel, body)
        self.responder.deliver(self.envelope.open(channel, sealed))

    def _receive(self, gateway: str, data: bytes) -> None:
        message: Opened = self._gateways[gateway].open(inbox_channel(gateway), data)
        self.inboxes[gateway].append(decode_answers(message.body).items)

    def answers(self, gateway: str = "gateway") -> list[list[tuple[int, str, object]]]:
        return [
            [(a.id, a.status, msgspec.msgpack.decode(a.body)) for a in message]
            for message in self.inboxes[gateway]
        ]
