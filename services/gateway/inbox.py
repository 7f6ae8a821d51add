"""What comes to the gateway over the bus: answers to its requester, news to its connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import structlog

from services.gateway import log_events
from shared.bus.channels import NEWS
from shared.messages import Alive, Changed, decode_news

if TYPE_CHECKING:
    from services.gateway.connections import Connections
    from services.gateway.metrics import Metrics
    from shared.bus.envelope import Opened
    from shared.bus.requester import Requester
    from shared.bus.responders import Responders

REMOVED_REASON = "device removed"


class Inbox:
    """Hands each message to whom it concerns."""

    def __init__(
        self,
        *,
        requester: Requester,
        responders: Responders,
        connections: Connections,
        metrics: Metrics,
    ) -> None:
        self._requester = requester
        self._responders = responders
        self._connections = connections
        self._metrics = metrics
        self._log = structlog.get_logger("gateway")

    def on_message(self, channel: str, message: Opened) -> None:
        """Take one opened message."""
        if channel != NEWS:
            self._requester.deliver(message)
            return
        try:
            news = decode_news(message.body)
        except (msgspec.MsgspecError, RecursionError):
            self._metrics.bus.labels("malformed-news").inc()
            return
        if isinstance(news, Alive):
            if news.boot_id == message.sender:
                self._responders.heard(news.boot_id)
        elif isinstance(news, Changed):
            self._changed(news)

    def _changed(self, change: Changed) -> None:
        if not change.closes:
            return
        closed = self._connections.close_device(change.device_id, change.closes, REMOVED_REASON)
        if closed:
            self._metrics.closed_by_change.inc(closed)
            self._log.info(
                log_events.CHANGED.name,
                device=change.device_id,
                kind=change.kind,
                change=change.change.number,
                closed=closed,
            )
