"""A client's socket: what the gateway sees of it, and the device at its other end."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
from aiohttp import WSMsgType

from shared.device.handshake import Challenge, Credentials, connect_request, encode, request
from shared.device.identity import DeviceKey
from shared.device.profile import CLI, NODE_HOST
from shared.protocol.limits import PREAUTH_FRAME_LIMIT_BYTES
from tests.simulation.gateway import GATEWAY_TOKEN, GatewayProcess

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from services.gateway.connections import Connection
    from tests.simulation.oracle import Oracle, Session
    from tests.simulation.world import World

TEXT: Final = 0x81
CLOSE: Final = 0x88
PING: Final = 0x89
PONG: Final = 0x8A
_KEYS: Final = [DeviceKey.from_seed(bytes([number]) * 32) for number in range(1, 7)]
_PROFILES: Final = (CLI, CLI, replace(CLI, scopes=("operator.write",)), NODE_HOST, CLI, NODE_HOST)
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


class Message(NamedTuple):
    """One WebSocket message, as aiohttp hands it over."""

    type: WSMsgType
    data: Any


class Transport:
    """The gateway's end of the socket: what it writes goes past the oracle to the device."""

    def __init__(self, socket: SimulatedSocket) -> None:
        self._socket = socket
        self._closing = False
        self.on_lost: Callable[[], object] = _nothing
        self.connection: Connection | None = None

    def write(self, data: bytes) -> None:
        """Send frames."""
        if not self._closing:
            self._socket.sent(data)

    def close(self) -> None:
        """End the socket."""
        if not self._closing:
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
        self.on_lost()
        self._socket.put(Message(WSMsgType.CLOSED, None))
        self._socket.ended()


class SimulatedSocket:
    """What stands for aiohttp's WebSocket and protocol at the gateway."""

    def __init__(
        self, world: World, oracle: Oracle, device: Device, gateway: GatewayProcess, number: int
    ) -> None:
        self.world = world
        self.device = device
        self.gateway = gateway
        self.address = f"198.51.100.{device.number}"
        self.nonce = f"{number:032x}"
        self.received = PREAUTH_FRAME_LIMIT_BYTES
        self.transport = Transport(self)
        self.session: Session | None = None
        """What the oracle knows of it, once it is admitted."""
        self.wire_bytes = 0
        self.left = False
        """Whether the device has said goodbye."""
        self._oracle = oracle
        self._queue: list[Message] = []
        self._waiter: asyncio.Future[None] | None = None

    async def receive(self) -> Message:
        """Return the next message; for ever the last one once it has ended."""
        while not self._queue:
            self._waiter = self.gateway.process.loop.create_future()
            await self._waiter
        if self._queue[0].type is WSMsgType.CLOSED:
            return self._queue[0]
        return self._queue.pop(0)

    def trust(self) -> None:
        """Take notice that it is admitted."""

    def put(self, message: Message) -> None:
        """Take a message in, within the gateway's process."""
        self._queue.append(message)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

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


class Device:
    """A client: it connects, calls, answers pings and leaves, and remembers its device token."""

    def __init__(self, world: World, oracle: Oracle, number: int) -> None:
        self.number = number
        self.name = f"device {number}"
        self.key = _KEYS[number - 1]
        self.profile = _PROFILES[number - 1]
        self.role = self.profile.role or "operator"
        self.token = ""
        self.socket: SimulatedSocket | None = None
        self.admitted = False
        self.outcome = ""
        """How the last attempt went: admitted, an error code, or nothing yet."""
        self.token_only = False
        self._world = world
        self._oracle = oracle
        self._sockets = 0

    @property
    def idle(self) -> bool:
        """Whether it has no socket."""
        return self.socket is None

    def connect(self, gateway: GatewayProcess, *, with_token: bool) -> None:
        """Open a socket; `with_token`: prove itself by its device token alone, if it has one."""
        self._sockets += 1
        number = self.number * 1000 + self._sockets
        self.socket = SimulatedSocket(self._world, self._oracle, self, gateway, number)
        self.admitted = False
        self.outcome = ""
        self.token_only = with_token and bool(self.token)
        self._world.story.tell(self.name, f"connects to {gateway.name}")
        self._world.after(0.002, gateway.process.receive, gateway.accept, self.socket)

    def call(self) -> None:
        """Send a request."""
        self._send(Message(WSMsgType.TEXT, encode(request("health", None, "1")).encode()))

    def leave(self) -> None:
        """Close the socket."""
        self._world.story.tell(self.name, "leaves")
        self._send(Message(WSMsgType.CLOSE, 1000))

    def take(self, socket: SimulatedSocket, data: bytes) -> None:
        """Take frames from the gateway."""
        if socket is not self.socket:
            return
        for kind, payload in frames(data):
            if kind == TEXT:
                self._take_frame(_decode(payload))
            elif kind == PING:
                self._send(Message(WSMsgType.PONG, b""))
            elif kind == CLOSE:
                self.admitted = False
                self._send(Message(WSMsgType.CLOSE, 1000))

    def lost(self, socket: SimulatedSocket) -> None:
        """Take notice that the socket is gone."""
        if socket is self.socket:
            self.socket = None
            self.admitted = False

    def _take_frame(self, frame: dict[str, Any]) -> None:
        if frame.get("event") == "connect.challenge":
            payload = frame["payload"]
            challenge = Challenge(payload["nonce"], payload["ts"])
            secret = (
                Credentials(device_token=self.token)
                if self.token_only
                else Credentials(token=GATEWAY_TOKEN)
            )
            text = encode(connect_request(challenge, self.key, self.profile, secret, "c"))
            self._send(Message(WSMsgType.TEXT, text.encode()))
        elif frame.get("id") == "c" and frame["ok"]:
            self.admitted = True
            self.outcome = "admitted"
            self.token = frame["payload"]["auth"].get("deviceToken", "")
        elif frame.get("id") == "c":
            self.outcome = frame["error"]["code"]
            details = frame["error"].get("details", {})
            if details.get("code") == "AUTH_DEVICE_TOKEN_MISMATCH":
                self.token = ""
            why = details.get("reason") or details.get("code") or ""
            self._world.story.tell(self.name, f"is refused: {self.outcome} {why}")

    def _send(self, message: Message) -> None:
        socket = self.socket
        if socket is not None:
            socket.left = socket.left or message.type is WSMsgType.CLOSE
            self._world.after(0.002, socket.gateway.process.receive, socket.put, message)


def frames(data: bytes) -> list[tuple[int, bytes]]:
    """Take unmasked WebSocket frames apart: first byte and payload of each."""
    found = []
    at = 0
    while at < len(data):
        kind, size = data[at], data[at + 1]
        at += 2
        if size == 126:
            size = int.from_bytes(data[at : at + 2], "big")
            at += 2
        elif size == 127:
            size = int.from_bytes(data[at : at + 8], "big")
            at += 8
        found.append((kind, data[at : at + size]))
        at += size
    return found


def _nothing() -> None:
    """Take no notice."""
