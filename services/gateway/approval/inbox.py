"""Dispatches messages from the bus: answers to the requester, events to the heartbeat."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from shared.bus.channels import NEWS
from shared.rpc.messages import Alive, decode_news

if TYPE_CHECKING:
    from services.gateway.approval.heartbeat import Heartbeat
    from services.gateway.metrics import Metrics
    from shared.bus.envelope import Opened
    from shared.rpc.requester import Requester
    from shared.rpc.responder_pool import ResponderPool


class Inbox:
    """Dispatches each message to its recipient."""

    def __init__(
        self,
        *,
        requester: Requester,
        responders: ResponderPool,
        beater: Heartbeat,
        metrics: Metrics,
    ) -> None:
        self._requester = requester
        self._responders = responders
        self._beater = beater
        self._metrics = metrics

    def on_message(self, channel: str, message: Opened) -> None:
        """Handle one message whose envelope was opened and verified."""
        if channel != NEWS:
            self._requester.deliver(message)
            return
        try:
            news = decode_news(message.body)
        except (msgspec.MsgspecError, RecursionError):
            self._metrics.bus.labels("malformed-news").inc()
            return
        if not isinstance(news, Alive):
            self._beater.on_event(news)
        elif news.boot_id != message.sender:
            return
        elif news.ready:
            self._responders.seen(news.boot_id)
            self._beater.on_approval_alive()
        else:
            self._responders.gone(news.boot_id)
