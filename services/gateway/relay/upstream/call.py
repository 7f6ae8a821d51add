"""One call to the upstream as the gateway itself: connect without a device, call, disconnect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from services.gateway.relay.rules.headers import RELAY_USER, ForwardedClient
from shared.protocol.closing import CloseCode
from shared.protocol.frames import encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.gateway.relay.upstream.socket import UpstreamSocket
    from services.gateway.relay.upstream.upstream import Upstream

CALL_SECONDS: Final = 5.0
"""How long a call may take, its connection included."""
SCOPES: Final = ("operator.admin", "operator.pairing")
"""What approving and removing devices needs at the upstream."""
RELAY_ADDRESS: Final = "192.0.2.2"
"""Sent as the address of the gateway's own calls: the upstream wants one that is not loopback."""

_CONNECT_ID: Final = "connect"
_CALL_ID: Final = "call"
_decode: Final = msgspec.json.Decoder().decode


class CallFailed(Exception):
    """The call failed: the upstream's error code and message, or why it was not reached.

    `retryable`: it was not reached, or says that a later attempt may succeed, as while it starts.
    """

    def __init__(self, code: str, message: str, *, retryable: bool = False) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.retryable = retryable


class UpstreamCall:
    """Calls one method. `done` is called exactly once, with the payload or CallFailed."""

    def __init__(
        self,
        upstream: Upstream,
        version: str,
        method: str,
        params: dict[str, Any],
        done: Callable[[Any | CallFailed], None],
    ) -> None:
        self._upstream = upstream
        self._version = version
        self._method = method
        self._params = params
        self._done: Callable[[Any | CallFailed], None] | None = done
        own = ForwardedClient(
            address=RELAY_ADDRESS, loopback=False, secure=False, host=upstream.address.host
        )
        self._socket: UpstreamSocket = upstream.open(RELAY_USER, own, self)

    def give_up(self) -> None:
        """End the call, which took too long."""
        self._finish(CallFailed("TIMEOUT", "the upstream did not answer in time", retryable=True))

    def on_text(self, payload: bytes) -> None:
        """Handle a frame: the challenge, or one of the two responses."""
        try:
            frame = _decode(payload)
            self._on_frame(frame, frame.get("type"), frame.get("id"))
        except (msgspec.MsgspecError, AttributeError, RecursionError):
            self._finish(CallFailed("INVALID", "the upstream's answer is not readable"))

    def _on_frame(self, frame: dict[str, Any], kind: object, number: object) -> None:
        if kind == "event" and frame.get("event") == "connect.challenge":
            self._send(_CONNECT_ID, "connect", self._connect_params())
        elif kind == "res" and frame.get("ok") is not True:
            error = frame.get("error") or {}
            code, message = str(error.get("code")), str(error.get("message"))
            retryable = error.get("retryable") is True
            self._finish(CallFailed(code, message, retryable=retryable))
        elif kind == "res" and number == _CONNECT_ID:
            server = frame.get("payload", {}).get("server", {})
            self._upstream.reached(str(server.get("version", "")))
            self._send(_CALL_ID, self._method, self._params)
        elif kind == "res" and number == _CALL_ID:
            self._finish(frame.get("payload"))

    def on_end(self, code: int | None, reason: str) -> None:
        """Report that the socket ended before the answer."""
        self._finish(CallFailed("CLOSED", reason or f"closed with {code}", retryable=True))

    def on_held(self, held_bytes: int) -> None:
        """Do nothing: its responses are short."""

    def on_full(self) -> None:
        """Do nothing, because only two short frames are sent."""

    def on_drained(self) -> None:
        """Do nothing."""

    def _send(self, number: str, method: str, params: dict[str, Any]) -> None:
        request = {"type": "req", "id": number, "method": method, "params": params}
        self._socket.send_text(encode(request))

    def _connect_params(self) -> dict[str, Any]:
        return {
            "minProtocol": 4,
            "maxProtocol": 4,
            "client": {
                "id": "cli",
                "version": self._version,
                "platform": "linux",
                "mode": "cli",
                "displayName": "Latchkey",
            },
            "caps": [],
            "role": "operator",
            "scopes": list(SCOPES),
        }

    def _finish(self, outcome: Any | CallFailed) -> None:
        done, self._done = self._done, None
        if done is not None:
            self._socket.close(CloseCode.NORMAL)
            done(outcome)
