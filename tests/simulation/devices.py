"""The devices at the other ends of the sockets: they connect, call, and hear what they are told."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import msgspec
from aiohttp import WSMsgType

from shared.device.handshake import Challenge, Credentials, connect_request, encode, request
from shared.device.identity import DeviceKey
from shared.device.profile import CLI, NODE_HOST
from tests.simulation.gateway import GATEWAY_TOKEN, GatewayProcess
from tests.simulation.sockets import CLOSE, PING, TEXT, Message, SimulatedSocket, frames

if TYPE_CHECKING:
    from tests.simulation.oracle import Oracle
    from tests.simulation.world import World

_KEYS: Final = [DeviceKey.from_seed(bytes([number]) * 32) for number in range(1, 7)]
_PROFILES: Final = (CLI, CLI, replace(CLI, scopes=("operator.write",)), NODE_HOST, CLI, NODE_HOST)
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


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
