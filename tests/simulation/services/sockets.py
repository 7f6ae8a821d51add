"""A client's socket as the gateway sees it: messages in, frames out past the oracle."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from services.gateway.connections.connection import Connection
    from services.gateway.session.handler import SessionHandler
    from tests.simulation.checks.oracle import Oracle
    from tests.simulation.checks.rights import Session
    from tests.simulation.engine.world import World
    from tests.simulation.services.devices import Device
    from tests.simulation.services.gateway import GatewayProcess


class Message(NamedTuple):
    """One WebSocket message, as the frame parser delivers it."""

    opcode: int
    payload: bytes


class Transport:
    """The gateway's end of the socket: its output passes the oracle on the way to the device."""

    def __init__(self, socket: SimulatedSocket) -> None:
        self._socket = socket
        self._closing = False
        self.connection: Connection | None = None

    def write(self, data: bytes) -> None:
        """Send frames, unless the process was killed."""
        if not self._closing and not self._socket.gateway.process.gone:
            self._socket.sent(data)

    def close(self) -> None:
        """Close the socket."""
        if not self._closing and not self._socket.gateway.process.gone:
            self._closing = True
            self._socket.hung_up()
            self._socket.gateway.process.loop.call_soon(self._lost)

    def abort(self) -> None:
        """Abort the socket; must not happen to a well-behaved admitted client."""
        self.close()

    def is_closing(self) -> bool:
        """Return whether it was closed."""
        return self._closing

    def get_write_buffer_size(self) -> int:
        """Report an empty buffer."""
        return 0

    def lose(self) -> None:
        """Handle the loss of the device."""
        self.close()

    def _lost(self) -> None:
        if self._socket.visit is not None:
            self._socket.visit.on_lost()
        self._socket.ended()


class SimulatedSocket:
    """A simulated WebSocket at the gateway's end."""

    def __init__(
        self,
        world: World,
        oracle: Oracle,
        device: Device,
        gateway: GatewayProcess,
        number: int,
        *,
        token_only: bool,
    ) -> None:
        self.world = world
        self.device = device
        self.gateway = gateway
        self.address = f"198.51.100.{device.number}"
        self.nonce = f"{number:032x}"
        self.token_only = token_only
        """Whether the device authenticates by its device token alone."""
        self.transport = Transport(self)
        self.session: Session | None = None
        """The oracle's session, once it is admitted."""
        self.visit: SessionHandler | None = None
        """The gateway's connection, once it is accepted."""
        self.left = False
        """Whether the device has sent a close frame."""
        self._oracle = oracle

    def put(self, message: Message) -> None:
        """Receive a message within the gateway's process."""
        if self.visit is not None and not self.transport.is_closing():
            self.visit.on_message(*message)

    def sent(self, data: bytes) -> None:
        """Deliver the gateway's output to the device, past the oracle."""
        self._oracle.sent(self, data)
        self.world.after(0.002, self.device.take, self, data)

    def hung_up(self) -> None:
        """Tell the oracle that the gateway closes it."""
        self._oracle.hung_up(self)

    def ended(self) -> None:
        """Tell the device that the socket is gone."""
        self._oracle.ended(self)
        self.world.after(0.002, self.device.lost, self)
