"""An approval client over the real bus parts, with answers scripted by the test."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import msgspec

from services.gateway.approval.client import BusApprovalClient
from services.gateway.approval.heartbeat import Heartbeat
from services.gateway.connections.hub import Hub
from services.gateway.connections.places import PlaceLimits
from services.gateway.metrics import Metrics
from services.gateway.replication.presence import Presence
from services.gateway.replication.recent_refusals import RecentRefusals
from services.gateway.replication.replica import Replica
from shared.rpc.codec import Item, ItemAnswer
from shared.rpc.messages import (
    Changed,
    HeartbeatAnswer,
    HeartbeatQuestion,
    Position,
    decode_question,
    encode,
)
from tests.unit.rpc.fake_bus import Approval, Gateway

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.clock import FakeClock

HEAD: Final = Position(7, "tag")
LEASE_SECONDS: Final = 10.0
STORE_AHEAD_MS: Final = 5_000_000
"""The offset of the store's clock from the gateway's."""


class ApprovalClientCase:
    """Approvals answer heartbeats at once, and other requests with `answer_to`, `late_seconds` later."""

    def __init__(self, clock: FakeClock, approvals: int = 1) -> None:
        self.clock = clock
        self.gateway = Gateway(clock, approvals)
        self.late_seconds = 0.0
        self.head = HEAD
        self.changes: list[Changed] = []
        """The position in the answers to heartbeats."""
        presence = Presence()
        self.beat = Replica(clock, lease_seconds=LEASE_SECONDS)
        self.beater = Heartbeat(
            replica=self.beat,
            presence=presence,
            refusals=RecentRefusals(),
            requester=self.gateway.requester,
            connections=Hub(
                clock,
                presence,
                leased=lambda: self.beat.leased,
                limits=PlaceLimits(1, 1, 1, 1),
            ),
            metrics=Metrics(),
            clock=clock,
            beat_seconds=1,
            on_presence=lambda _version: None,
        )
        self.approvals = BusApprovalClient(self.gateway.requester, self.beat, self.beater, clock)
        for approval in self.gateway.approvals:
            approval.manner = self._answering(approval)

    @property
    def store_ms(self) -> int:
        """The store's clock, in milliseconds."""
        return round(self.clock.monotonic() * 1000) + STORE_AHEAD_MS

    async def first_beat(self) -> None:
        """Send a heartbeat, and wait for its answer."""
        self.beater.sync_now()
        while not self.beat.leased:
            await self.beater.wait_for_progress()

    def answer_to(self, question: object) -> bytes:
        """Return approval's encoded answer to a request other than a heartbeat."""
        raise NotImplementedError

    def _answering(self, approval: Approval) -> Callable[[str, list[Item]], None]:
        def answering(gateway: str, items: list[Item]) -> None:
            for item in items:
                question = decode_question(item.body)
                if isinstance(question, HeartbeatQuestion):
                    late, body = 0.0, encode(self._beat_answer(question))
                else:
                    late, body = self.late_seconds, self.answer_to(question)
                reply = [ItemAnswer(item.id, "ok", msgspec.Raw(body))]
                asyncio.get_running_loop().call_later(late, approval.reply, gateway, reply)

        return answering

    def _beat_answer(self, question: HeartbeatQuestion) -> HeartbeatAnswer:
        return HeartbeatAnswer(
            question.heartbeat_id,
            self.head,
            self.store_ms,
            question.heartbeat_id,
            resync=not question.booted,
            changes=self.changes,
        )
