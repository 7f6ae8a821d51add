"""One socket, from upgrade until its transport is gone, and what it is owed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.gateway.websocket.frames import text_frame

if TYPE_CHECKING:
    import asyncio

    from services.gateway.handshake.session import Session


class Connection:
    """One socket, from upgrade until its transport is gone."""

    __slots__ = (
        "called",
        "calls",
        "closed_with",
        "condemned",
        "deadline",
        "ended_by",
        "limit_key",
        "number",
        "pinged",
        "sequence",
        "session",
        "transport",
    )

    def __init__(
        self, number: int, transport: asyncio.Transport, limit_key: str, deadline: float
    ) -> None:
        self.number = number
        self.transport = transport
        self.limit_key = limit_key
        self.deadline = deadline
        self.session: Session | None = None
        self.sequence = 0
        self.called = 0
        self.pinged = False
        self.condemned = False
        """Whether nothing is served any more, though the close frame is still to come."""
        self.closed_with: tuple[int, str] | None = None
        """Code and reason that we closed with; None while we did not."""
        self.calls: set[str] = set()
        """Ids of its calls that approval has not answered yet."""
        self.ended_by = ""
        """The id of its own call that ended it; its response is the last that it hears."""

    @property
    def closing(self) -> bool:
        """Whether nothing more is to be sent or served."""
        return self.condemned or self.closed_with is not None or self.transport.is_closing()

    def send(self, payload: bytes) -> None:
        """Send one text frame, if the socket still takes it."""
        if not self.closing:
            self.transport.write(text_frame(payload))

    def next_call(self, connection_id: str) -> str:
        """Return an id for one more call."""
        self.called += 1
        return f"{connection_id}/{self.called}"

    def next_sequence(self) -> int:
        """Count one broadcast delivered to this connection, from 1."""
        self.sequence += 1
        return self.sequence
