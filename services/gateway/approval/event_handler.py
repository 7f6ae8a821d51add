"""Handles the events that approval publishes to all gateways."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from shared.rpc.messages import Addresses, Changed, decode_event

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from services.gateway.approval.heartbeat import Heartbeat
    from services.gateway.metrics import Metrics
    from shared.bus.envelope import Opened
    from shared.rpc.responder_pool import ResponderPool


class EventHandler:
    """Passes changes to the heartbeat, and announcements to the pool of responders."""

    def __init__(
        self,
        *,
        responders: ResponderPool,
        heartbeat: Heartbeat,
        metrics: Metrics,
        learn: Callable[[Sequence[str]], None] | None = None,
    ) -> None:
        self._responders = responders
        self._heartbeat = heartbeat
        self._metrics = metrics
        self._learn = learn

    def on_message(self, message: Opened) -> None:
        """Handle one event whose envelope was opened and verified."""
        try:
            event = decode_event(message.body)
        except (msgspec.MsgspecError, RecursionError):
            self._metrics.bus.labels("malformed-news").inc()
            return
        if isinstance(event, Changed):
            self._heartbeat.on_event(event)
        elif isinstance(event, Addresses):
            if self._learn is not None:
                self._learn(event.keys)
        elif event.boot_id != message.sender:
            return
        elif event.ready:
            self._responders.seen(event.boot_id)
            self._heartbeat.on_approval_alive()
        else:
            self._responders.gone(event.boot_id)
