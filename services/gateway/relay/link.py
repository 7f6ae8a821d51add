"""One client's link to the upstream: its turn to connect, a deadline and the socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from services.gateway.relay.upstream.socket import Listener
from shared.protocol.closing import CloseCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.gateway.relay.opening import Ticket
    from services.gateway.relay.relay import Relay
    from services.gateway.relay.rules.headers import ForwardedClient
    from services.gateway.relay.upstream.socket import UpstreamSocket


class Owner(Listener, Protocol):
    """Gets what arrives on the socket, and `on_timeout` if a deadline passes."""

    def on_timeout(self) -> None:
        """Handle the end of the time given to `open` or `wait`."""
        ...


class UpstreamLink:
    """Opens sockets to the upstream for one client, one at a time, and cleans up after each.

    `socket` is used directly for frames.
    """

    __slots__ = ("_client", "_is_paused", "_limit_key", "_owner", "_relay", "_ticket", "socket")

    def __init__(
        self, relay: Relay, owner: Owner, client: ForwardedClient, *, limit_key: str
    ) -> None:
        self._relay = relay
        self._owner = owner
        self._client = client
        self._limit_key = limit_key
        self._ticket: Ticket | None = None
        self._is_paused = False
        """Whether the client does not read, so that nothing is read from any socket."""
        self.socket: UpstreamSocket | None = None
        """The socket, from when it begins to open until it ends."""

    def open(self, user: str, seconds: float, scopes: Sequence[str] | None = None) -> bool:
        """Queue for a socket as an upstream user, with a deadline; False if the queue is full.

        `scopes` narrow what that user may do.
        """
        relay = self._relay

        def start() -> None:
            self.socket = relay.upstream.open(user, self._client, self._owner, scopes=scopes)
            if self._is_paused:
                self.socket.pause_reading()

        relay.wait(self._owner, seconds)
        ticket = relay.openings.ask(self._limit_key, start)
        if ticket is None:
            relay.stop_waiting(self._owner)
            return False
        self._ticket = ticket
        return True

    def wait(self, seconds: float) -> None:
        """Replace the deadline."""
        self._relay.wait(self._owner, seconds)

    def pause_reading(self) -> None:
        """Stop reading, from this socket and from those that follow."""
        self._is_paused = True
        if self.socket is not None:
            self.socket.pause_reading()

    def resume_reading(self) -> None:
        """Resume reading."""
        self._is_paused = False
        if self.socket is not None:
            self.socket.resume_reading()

    def opened(self) -> None:
        """Let the next client connect: this one has the upstream's challenge."""
        if self._ticket is not None:
            self._relay.openings.opened(self._ticket)

    def admitted(self) -> None:
        """Release the place that clients hold until they are admitted."""
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            self._relay.openings.release(ticket)

    def ended(self) -> None:
        """Forget the socket, which the upstream ended."""
        self.socket = None
        self._owner.on_held(0)
        self.admitted()

    def drop(self, code: int = CloseCode.NORMAL) -> None:
        """Close the socket, and release everything."""
        socket, self.socket = self.socket, None
        if socket is not None:
            socket.close(code)
            self._owner.on_held(0)
        self.admitted()
        self._relay.stop_waiting(self._owner)
