"""A client's socket as the gateway sees it: messages in, frames out past the oracle."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from services.gateway.connections.connection import Connection
    from services.gateway.session.handler import SessionHandler
    from tests.simulation.devices import Device
    from tests.simulation.gateway import GatewayProcess
    from tests.simulation.oracle import Oracle
    from tests.simulation.rights import Session
    from tests.simulation.world import World


class Message(NamedTuple):
    """One WebSocket message, as the frame parser hands it over."""

    opcode: int
    payload: bytes


class Transport:
    """The gateway's end of the socket: what it writes goes past the oracle to the device."""

    def __init__(self, socket: SimulatedSocket) -> None:
        self._socket = socket
        self._closing = False
        self.connection: Connection | None = None

    def write(self, data: bytes) -> None:
        """Send frames; what a killed process leaves behind sends none."""
        if not self._closing and not self._socket.gateway.process.gone:
            self._socket.sent(data)

    def close(self) -> None:
        """End the socket."""
        if not self._closing and not self._socket.gateway.process.gone:
            self._closing = True
            self._socket.hung_up()
            self._socket.gateway.process.loop.call_soon(self._lost)

    def abort(self) -> None:
        """End the socket at once; an admitted client that did nothing wrong must not see this."""
        self.close()

    def is_closing(self) -> bool:
        """Say whether it was ended."""
        return self._closing

    def get_write_buffer_size(self) -> int:
        """Say that everything was taken."""
        return 0

    def lose(self) -> None:
        """Notice that the device is gone."""
        self.close()

    def _lost(self) -> None:
        if self._socket.visit is not None:
            self._socket.visit.on_lost()
        self._socket.ended()


class SimulatedSocket:
    """What stands for the gateway's end of a WebSocket."""

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
        """Whether the device proves itself by its device token alone."""
        self.transport = Transport(self)
        self.session: Session | None = None
        """What the oracle knows of it, once it is admitted."""
        self.visit: SessionHandler | None = None
        """The gateway's side of it, once it is accepted."""
        self.left = False
        """Whether the device has said goodbye."""
        self._oracle = oracle

    def put(self, message: Message) -> None:
        """Take a message in, within the gateway's process."""
        if self.visit is not None and not self.transport.is_closing():
            self.visit.on_message(*message)

    def sent(self, data: bytes) -> None:
        """Bring what the gateway sends to the device, past the oracle."""
        self._oracle.sent(self, data)
        self.world.after(0.002, self.device.take, self, data)

    def hung_up(self) -> None:
        """Tell the oracle that the gateway ends it."""
        self._oracle.hung_up(self)

    def ended(self) -> None:
        """Tell the device that the socket is gone."""
        self._oracle.ended(self)
        self.world.after(0.002, self.device.lost, self)
