"""The port to approval: everything the gateway ever asks of it, and the way over the bus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from shared.bus.errors import Unavailable
from shared.messages import Admission, Answer, decode_answer, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.bus.requester import Requester
    from shared.bus.responders import Responders


class Approvals(Protocol):
    """Who decides whether a device may come in."""

    async def ask(self, question: Admission) -> Answer:
        """Return the verdict; raises Unavailable when nobody gave one in time."""
        ...

    def require_live(self) -> None:
        """Return if a question could be answered now; raises Unavailable if not."""
        ...


class BusApprovals:
    """Asks whichever approval replica is alive, over the bus."""

    def __init__(
        self, requester: Requester, responders: Responders, bus_ok: Callable[[], bool]
    ) -> None:
        self._requester = requester
        self._responders = responders
        self._bus_ok = bus_ok

    async def ask(self, question: Admission) -> Answer:
        """Return the verdict; raises Unavailable when nobody gave one in time."""
        raw = await self._requester.ask(msgspec.Raw(encode(question)))
        try:
            answer: Answer = decode_answer(raw)
        except (msgspec.MsgspecError, RecursionError):
            raise Unavailable("no-responder", detail="an answer that cannot be read") from None
        return answer

    def require_live(self) -> None:
        """Return if a question could be answered now; raises Unavailable if not."""
        if not self._responders.live() and not self._responders.expected():
            raise Unavailable("no-responder" if self._bus_ok() else "redis")
