"""The devices at the other ends of the sockets: they connect, call, and record what arrives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from shared.device.handshake import Challenge, Credentials, connect_request, encode, request
from shared.device.identity import DeviceKey
from shared.device.profile import CLI, NODE_HOST
from shared.protocol.events import DEVICE_REQUESTED, DEVICE_RESOLVED
from shared.protocol.scopes import ADMIN, PAIRING, READ, WRITE, covers
from tests.simulation.services.gateway import GATEWAY_TOKEN, GatewayProcess
from tests.simulation.services.sockets import Message, SimulatedSocket
from tests.support.websocket import raw_socket
from tests.support.websocket.sent_frames import CLOSE, PING, TEXT, frames

if TYPE_CHECKING:
    from tests.simulation.checks.oracle import Oracle
    from tests.simulation.engine.world import World

_NORMAL: Final = b"\x03\xe8"
"""A close with code 1000."""
_KEYS: Final = [DeviceKey.from_seed(bytes([number]) * 32) for number in range(1, 7)]
_PROFILES: Final = (
    CLI,
    CLI.with_scopes(ADMIN),
    CLI.with_scopes(WRITE),
    NODE_HOST,
    CLI.with_scopes(READ, PAIRING),
    NODE_HOST,
)
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
        """The result of the last attempt: admitted, an error code, or nothing yet."""
        self.operates = covers(self.profile.scopes or (), PAIRING, self.role)
        """Whether it requests the scope of the device methods."""
        self.waiting: list[str] = []
        """Ids of the requests it was told of that have not ended, as far as it knows."""
        self._world = world
        self._oracle = oracle
        self._sockets = 0
        self._called: dict[str, str] = {}

    @property
    def idle(self) -> bool:
        """Whether it has no socket."""
        return self.socket is None

    def connect(self, gateway: GatewayProcess, *, with_token: bool) -> None:
        """Open a socket; `with_token` authenticates by the device token alone, if there is one."""
        self._sockets += 1
        number = self.number * 1000 + self._sockets
        self.socket = SimulatedSocket(
            self._world,
            self._oracle,
            self,
            gateway,
            number,
            token_only=with_token and bool(self.token),
        )
        self.admitted = False
        self.outcome = ""
        self._world.story.tell(self.name, f"connects to {gateway.name}")
        self._world.after(0.002, gateway.process.receive, gateway.accept, self.socket)

    def call(self) -> None:
        """Send a request."""
        self._send(Message(raw_socket.TEXT, encode(request("health", None, "1")).encode()))

    def operate(self, method: str, **params: str) -> None:
        """Call a device method; the response is recorded when it arrives."""
        number = str(len(self._called) + 2)
        self._called[number] = method
        self._world.story.tell(self.name, f"calls {method} ({number})")
        self._send(Message(raw_socket.TEXT, encode(request(method, params, number)).encode()))

    def leave(self) -> None:
        """Close the socket."""
        self._world.story.tell(self.name, "leaves")
        self._send(Message(raw_socket.CLOSE, _NORMAL))

    def take(self, socket: SimulatedSocket, data: bytes) -> None:
        """Handle frames from the gateway."""
        if socket is not self.socket:
            return
        for kind, payload in frames(data):
            if kind == TEXT:
                self._take_frame(_decode(payload), socket)
            elif kind == PING:
                self._send(Message(raw_socket.PONG, b""))
            elif kind == CLOSE:
                self.admitted = False
                self._send(Message(raw_socket.CLOSE, _NORMAL))

    def lost(self, socket: SimulatedSocket) -> None:
        """Record that the socket is gone."""
        if socket is self.socket:
            self.socket = None
            self.admitted = False

    def _take_frame(self, frame: dict[str, Any], socket: SimulatedSocket) -> None:
        if frame.get("id") in self._called:
            self._take_response(frame)
        elif frame.get("event") == DEVICE_REQUESTED:
            self.waiting.append(frame["payload"]["requestId"])
        elif frame.get("event") == DEVICE_RESOLVED:
            self._forget(frame["payload"]["requestId"])
        elif frame.get("event") == "connect.challenge":
            payload = frame["payload"]
            challenge = Challenge(payload["nonce"], payload["ts"])
            secret = (
                Credentials(device_token=self.token)
                if socket.token_only
                else Credentials(token=GATEWAY_TOKEN)
            )
            text = encode(connect_request(challenge, self.key, self.profile, secret, "c"))
            self._send(Message(raw_socket.TEXT, text.encode()))
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

    def _take_response(self, frame: dict[str, Any]) -> None:
        method, payload = self._called[frame["id"]], frame.get("payload", {})
        text = "done" if frame["ok"] else frame["error"]["code"]
        self._world.story.tell(self.name, f"hears of {method} ({frame['id']}): {text}")
        if "pending" in payload:
            self.waiting = [item["requestId"] for item in payload["pending"]]
        self.token = payload.get("token", self.token)

    def _forget(self, request_id: str) -> None:
        if request_id in self.waiting:
            self.waiting.remove(request_id)

    def _send(self, message: Message) -> None:
        socket = self.socket
        if socket is not None:
            socket.left = socket.left or message.opcode == raw_socket.CLOSE
            self._world.after(0.002, socket.gateway.process.receive, socket.put, message)
