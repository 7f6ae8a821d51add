"""The state of one connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from services.gateway.websocket.frames import text_frame

if TYPE_CHECKING:
    import asyncio

    from services.gateway.handshake.outcome import Session


class Backend(Protocol):
    """What a relayed connection has on its other side."""

    def on_closing(self, code: int | None) -> None:
        """Note that the connection is being closed with this code; None: it was lost."""
        ...

    @property
    def is_full(self) -> bool:
        """Whether the other side does not read, so that nothing is read from the client."""
        ...

    def ping(self) -> None:
        """Ping the other side; end if the last ping was not answered."""
        ...


class Connection(msgspec.Struct, eq=False):
    """One socket, from the upgrade until its transport is closed."""

    number: int
    transport: asyncio.Transport
    limit_key: str
    holders: tuple[str, ...]
    """The holders that it counts for, the largest first."""
    deadline: float
    trusted_local: bool = False
    """Whether its client is local and, if admitted, needs no device."""
    session: Session | None = None
    sequence: int = 0
    pinged: bool = False
    stopped: bool = False
    """Whether the connection is no longer served: it is to be closed, being closed, or lost."""
    closed_with: tuple[int, str] | None = None
    """The code and reason of our close frame; None until it is sent."""
    backend: Backend | None = None
    """The other side of a relayed connection."""
    muted: bool = False
    """Whether events are held back: admitted, but hello-ok has not been sent."""
    calls: set[str] = set()
    """The ids of calls that approval has not answered yet."""
    calls_made: int = 0
    ended_by: str = ""
    """The id of its own call that revoked its device; that response is the last frame sent."""

    @property
    def closing(self) -> bool:
        """Whether the connection must not be served or sent to any more."""
        return self.stopped or self.transport.is_closing()

    def send(self, payload: bytes) -> None:
        """Send one text frame unless the connection is closing."""
        if not self.closing:
            self.transport.write(text_frame(payload))

    def next_call(self, connection_id: str) -> str:
        """Return the id of the next call."""
        self.calls_made += 1
        return f"{connection_id}/{self.calls_made}"

    def next_sequence(self) -> int:
        """Return the sequence number of the next broadcast to this connection, starting at 1."""
        self.sequence += 1
        return self.sequence
