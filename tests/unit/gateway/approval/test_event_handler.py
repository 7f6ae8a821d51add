"""How the gateway handles announcements of approvals that accept or decline requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from services.gateway.approval.event_handler import EventHandler
from services.gateway.metrics import Metrics
from shared.bus.envelope import Opened
from shared.rpc.messages import Alive, encode
from shared.rpc.responder_pool import ResponderPool
from tests.support.clock import FakeClock

if TYPE_CHECKING:
    from services.gateway.approval.heartbeat import Heartbeat


class _Beater:
    def on_approval_alive(self) -> None:
        """Record that an approval replica is alive."""


def approvals_after(*alive: tuple[str, Alive]) -> list[str]:
    """Return which approvals the gateway would ask after these announcements."""
    responders = ResponderPool(FakeClock())
    events = EventHandler(
        responders=responders,
        heartbeat=cast("Heartbeat", _Beater()),
        metrics=Metrics(),
    )
    for sequence, (sender, news) in enumerate(alive, 1):
        events.on_message(Opened(sender, 1, sequence, encode(news)))
    return responders.live()


def test_a_leaving_responder_is_no_longer_asked() -> None:
    both = (("one", Alive("one")), ("two", Alive("two")))
    assert approvals_after(*both) == ["one", "two"]
    assert approvals_after(*both, ("one", Alive("one", ready=False))) == ["two"]


def test_a_responder_that_is_ready_again_is_asked_again() -> None:
    assert approvals_after(("one", Alive("one", ready=False)), ("one", Alive("one"))) == ["one"]


def test_nobody_speaks_for_another() -> None:
    assert approvals_after(("one", Alive("one")), ("two", Alive("one", ready=False))) == ["one"]
    assert approvals_after(("two", Alive("one"))) == []
