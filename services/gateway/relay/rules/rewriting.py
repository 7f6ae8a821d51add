"""Decides which frames the relay changes and which it serves itself. Pure.

Frames pass unchanged unless something in them has to change. Values that are not changed are
never decoded: they stay raw JSON, so that numbers and texts keep their form.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final

import msgspec

from services.gateway.methods.dispatcher import MethodCall
from services.gateway.relay.rules.marks import may_name_ours
from shared.protocol.closing import CloseCode
from shared.protocol.frames import encode
from shared.protocol.hello import more_tokens
from shared.protocol.limits import PREAUTH_FRAME_LIMIT_BYTES

if TYPE_CHECKING:
    from collections.abc import Collection

    from shared.protocol.hello import Grant

_Raw = msgspec.Raw
_raw_object: Final = msgspec.json.Decoder(dict[str, _Raw]).decode
_text: Final = msgspec.json.Decoder(str).decode
_texts: Final = msgspec.json.Decoder(list[str]).decode

_DROPPED_ALWAYS: Final = ("password", "approvalRuntimeToken", "agentRuntimeIdentityToken")
_BESIDE_TOKEN: Final = "bootstrapToken"  # noqa: S105 (the name of a field)
_OURS: Final = ("device.pair.", "device.token.", "device.scopes.")
"""Methods with these beginnings are served here, from our records."""
_NODE_REMOVE: Final = "node.pair.remove"
_DEVICE_PREFIX: Final = "device."
_PAIR_EVENT: Final = b'{"type":"event","event":"device.pair.'
_HELLO_AUTH_DROPPED: Final = ("deviceTokens", "recoveryScope", "recoveryMigrationAllowed")
_GOING_AWAY: Final = 1001
_NO_CODE: Final = 1005
"""What stands for a close frame without a code; it never travels itself."""
_PASSED_DOWN: Final = frozenset({1000, 1008, 1009, 1012, 1013, 4001})


class Challenge(msgspec.Struct, frozen=True):
    """The content of the upstream's challenge; `ts` is its clock, ms."""

    nonce: str
    ts: int


class _ChallengeEvent(msgspec.Struct):
    payload: Challenge


class Response(msgspec.Struct, frozen=True):
    """The upstream's answer to a `connect`, as far as it is read; `type` is "res"."""

    type: str
    ok: bool = False
    error: dict[str, Any] = {}


class _Called(msgspec.Struct):
    """The method of a request; empty for any other message."""

    method: str = ""


class _Server(msgspec.Struct):
    version: str = ""


_called: Final = msgspec.json.Decoder(_Called).decode
_server: Final = msgspec.json.Decoder(_Server).decode
_challenge_event: Final = msgspec.json.Decoder(_ChallengeEvent).decode
read_response: Final = msgspec.json.Decoder(Response).decode
"""Decodes what comes after `connect`. Raises msgspec.MsgspecError."""


class Route(Enum):
    """Where a client's frame goes after hello."""

    UPSTREAM = auto()
    HERE = auto()
    REMOVES_NODE = auto()
    """Upstream, and the node role of that device is dropped here as well."""
    BROKEN = auto()
    """It may be one of ours and cannot be read: an error, not passed on."""


@dataclass(frozen=True, slots=True)
class Joined:
    """The upstream's hello-ok for the client, or the scopes that it lacks."""

    frame: bytes
    missing_scopes: tuple[str, ...]
    version: str
    """The upstream's release; empty if it does not say."""


def read_challenge(frame: bytes) -> Challenge:
    """Decode the upstream's challenge. Raises msgspec.MsgspecError."""
    return _challenge_event(frame).payload


def route_of(frame: bytes) -> Route:
    """Return where a text frame of a relayed client goes."""
    if not may_name_ours(frame):
        return Route.UPSTREAM
    try:
        method = _called(frame).method
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return Route.BROKEN
    if method.startswith(_OURS):
        return Route.HERE
    return Route.REMOVES_NODE if method == _NODE_REMOVE else Route.UPSTREAM


def premature_connect(frame: bytes, *, challenged: bool) -> str | None:
    """Return the id of a `connect` that a device sent before it had a challenge, or None.

    The dashboard waits 750 ms for a challenge, then connects with an empty nonce. An upstream may
    take longer than that to open a socket, which is no fault of the client. If a challenge was sent
    (`challenged`), the two may have crossed, and only an empty nonce tells.
    """
    if len(frame) > PREAUTH_FRAME_LIMIT_BYTES:
        return None
    try:
        request = _raw_object(frame)
        params = _raw_object(request["params"])
        if "device" not in params or _text(request["method"]) != "connect":
            return None
        if challenged and _text(_raw_object(params["device"])["nonce"]):
            return None
        return _text(request["id"])
    except (msgspec.MsgspecError, KeyError, RecursionError, UnicodeDecodeError):
        return None


def upstream_connect(frame: bytes) -> bytes:
    """Return a client's `connect` for the upstream, without the secrets that are not signed.

    What the signature covers stays as it was sent. Raises msgspec.MsgspecError, KeyError.
    """
    request = _raw_object(frame)
    params = _raw_object(request["params"])
    if "auth" in params:
        auth = _raw_object(params["auth"])
        has_token = "token" in auth or "deviceToken" in auth
        for name in (*_DROPPED_ALWAYS, *((_BESIDE_TOKEN,) if has_token else ())):
            auth.pop(name, None)
        params["auth"] = _Raw(encode(auth))
    return encode({**request, "params": params})


def deviceless_connect(frame: bytes) -> bytes:
    """Return the `connect` of a command line without a device: the headers say who it is."""
    request = _raw_object(frame)
    params = _raw_object(request["params"])
    params.pop("auth", None)
    params.pop("device", None)
    return encode({**request, "params": params})


def client_hello(
    frame: bytes, grant: Grant, *, own_methods: Collection[str], protocol: int
) -> Joined:
    """Return the upstream's hello-ok for the client.

    Device token, its time and the method of authentication are ours, and so are the device
    methods. Raises msgspec.MsgspecError, KeyError if it is not a hello-ok.
    """
    response = _raw_object(frame)
    payload = _raw_object(response["payload"])
    auth: dict[str, Any] = dict(_raw_object(payload["auth"])) if "auth" in payload else {}
    granted = _texts(auth["scopes"]) if "scopes" in auth else []
    for name in _HELLO_AUTH_DROPPED:
        auth.pop(name, None)
    if protocol != 3 or grant.device_token:  # noqa: PLR2004 (a version)
        auth |= _own_auth(grant, protocol)
        payload["auth"] = _Raw(encode(auth))
    else:
        payload.pop("auth", None)
    features: dict[str, Any] = dict(_raw_object(payload["features"]))
    theirs = [name for name in _texts(features["methods"]) if not name.startswith(_DEVICE_PREFIX)]
    ours = [name for name in own_methods if name.startswith(_DEVICE_PREFIX)]
    features["methods"] = sorted({*theirs, *ours})
    payload["features"] = _Raw(encode(features))
    missing = tuple(scope for scope in grant.scopes if scope not in granted)
    version = _server(payload["server"]).version if "server" in payload else ""
    return Joined(encode({**response, "payload": payload}), missing, version)


def revoked_node(frame: bytes) -> MethodCall | None:
    """Return the call that drops the node role here when a client removes a node upstream.

    None where the frame has not what that takes: the upstream says what is missing.
    """
    try:
        request = _raw_object(frame)
        node = _text(_raw_object(request["params"])["nodeId"]).strip()
        return MethodCall(_text(request["id"]), _NODE_REMOVE, {"nodeId": node})
    except (msgspec.MsgspecError, KeyError, RecursionError, UnicodeDecodeError):
        return None


def is_pair_event(frame: bytes | bytearray, start: int = 0) -> bool:
    """Return whether the text from `start` on is an upstream's pairing event."""
    return frame.startswith(_PAIR_EVENT, start)


def down_event(frame: bytes) -> bytes | None:
    """Return an upstream's pairing event as it is forwarded; None for all other frames.

    Its content is about the upstream's own list of devices. It keeps its place in the sequence,
    because a missing number would look like a lost event.
    """
    if not is_pair_event(frame):
        return None
    event = _raw_object(frame)
    changed: dict[str, Any] = {
        "type": "event",
        "event": "device.pair.changed",
        "payload": {},
    }
    return encode(
        changed | {name: event[name] for name in ("seq", "stateVersion") if name in event}
    )


def code_for_upstream(code: int | None) -> int:
    """Return the close code for the upstream; None if the client vanished without one."""
    if code is None:
        return _GOING_AWAY
    return CloseCode.NORMAL if code == _NO_CODE else code


def code_for_client(code: int | None) -> tuple[int, str | None]:
    """Return the close code for the client, and the reason if it is not the upstream's."""
    if code in _PASSED_DOWN:
        return code, None
    return CloseCode.RESTART, "service restart"


def _own_auth(grant: Grant, protocol: int) -> dict[str, Any]:
    own: dict[str, Any] = {}
    if protocol != 3:  # noqa: PLR2004 (a version)
        own["method"] = grant.method
    if grant.device_token:
        own["deviceToken"] = grant.device_token
        own["issuedAtMs"] = grant.issued_at_ms
    return own | more_tokens(grant)
