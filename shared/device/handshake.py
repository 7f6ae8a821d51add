"""The client's side of the handshake, without I/O: challenge, connect, outcome.

Requests are plain dicts, so that a test can alter one after signing; responses are typed.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import msgspec
from msgspec import UNSET

from shared.device.errors import BrokenPeerError
from shared.protocol.connect import Auth, Client, ConnectParams, Device
from shared.protocol.signing import payload_v2, payload_v3, signed_token

if TYPE_CHECKING:
    from collections.abc import Mapping

    from msgspec import UnsetType

    from shared.device.identity import DeviceKey
    from shared.device.profile import Profile

Frame = dict[str, Any]
"""A decoded JSON object."""

_PAYLOADS: Final = {2: payload_v2, 3: payload_v3}

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Frame).decode


class Close(NamedTuple):
    """How a socket closed. 1005: a close frame without a code; 1006: no close frame at all."""

    code: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Challenge:
    """The nonce to sign, and the gateway's clock in ms, which becomes `signedAt`."""

    nonce: str
    ts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The secrets to offer; None is left out, an empty string is sent."""

    token: str | None = field(default=None, repr=False)
    device_token: str | None = field(default=None, repr=False)
    bootstrap_token: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Admitted:
    """hello-ok was received. `device_token` is empty when none was issued."""

    hello: Frame = field(repr=False)
    connection_id: str
    protocol: int
    role: str
    scopes: tuple[str, ...]
    device_token: str = field(default="", repr=False)
    issued_at_ms: int = 0

    @property
    def replica(self) -> str:
        """The boot id of the replica that answered."""
        return replica_of(self.connection_id)


@dataclass(frozen=True, slots=True)
class Refused:
    """No hello-ok: the error of the error frame (None if only closed), and the close.

    `close` is None while the gateway has not closed the socket.
    """

    error: Mapping[str, Any] | None
    close: Close | None = None

    @property
    def code(self) -> str:
        """The error code, such as NOT_PAIRED; empty without a frame."""
        return _text(self.error, "code")

    @property
    def message(self) -> str:
        """The error's message for people; empty without a frame."""
        return _text(self.error, "message")

    @property
    def details(self) -> Mapping[str, Any]:
        """The error's details for programs."""
        details = self.error.get("details") if self.error else None
        return details if isinstance(details, dict) else {}

    @property
    def detail_code(self) -> str:
        """The detailed code, such as PAIRING_REQUIRED."""
        return _text(self.details, "code")

    @property
    def request_id(self) -> str:
        """The id of the pairing request that awaits approval."""
        return _text(self.details, "requestId")

    @property
    def connection_id(self) -> str:
        """The connection id under which the gateway logged the attempt."""
        return _text(self.details, "connectionId")

    @property
    def retry_after_ms(self) -> int | None:
        """When to retry, if the gateway says so."""
        value = self.error.get("retryAfterMs") if self.error else None
        return value if isinstance(value, int) else None


Outcome = Admitted | Refused


@dataclass(frozen=True, slots=True)
class Response:
    """A response to a call: payload if `ok`, else error."""

    id: str
    ok: bool
    payload: Any = None
    error: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """An event from the gateway; `seq` numbers broadcasts, None for targeted events."""

    name: str
    payload: Any = None
    seq: int | None = None


def _text(values: Mapping[str, Any] | None, name: str) -> str:
    value = values.get(name) if values else None
    return value if isinstance(value, str) else ""


def replica_of(connection_id: str) -> str:
    """Return the boot id in a connection id `<boot id>:<n>`."""
    return connection_id.partition(":")[0]


def encode(frame: Mapping[str, Any]) -> str:
    """Encode a frame as JSON text."""
    return _encode(frame).decode()


def read_frame(text: str | bytes) -> Event | Response:
    """Decode a frame from the gateway; raises BrokenPeerError."""
    try:
        frame = _decode(text)
        match frame:
            case {"type": "event", "event": str(name)}:
                return Event(name, frame.get("payload"), frame.get("seq"))
            case {"type": "res", "id": str(request_id), "ok": True}:
                return Response(request_id, ok=True, payload=frame.get("payload"))
            case {"type": "res", "id": str(request_id), "ok": False, "error": dict(error)}:
                return Response(request_id, ok=False, error=error)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BrokenPeerError(f"not a JSON object: {error}") from error
    raise BrokenPeerError(f"neither event nor response: type {frame.get('type')!r}")


def read_challenge(event: Event | Response) -> Challenge:
    """Return the challenge in the first frame; BrokenPeerError if invalid."""
    match event:
        case Event("connect.challenge", {"nonce": str(nonce), "ts": int(ts)}) if (
            nonce.strip() and ts >= 0 and not isinstance(ts, bool)
        ):
            return Challenge(nonce, ts)
    raise BrokenPeerError("the first frame is no sound connect.challenge")


def read_outcome(response: Response) -> Outcome:
    """Return the outcome of the response to `connect`; BrokenPeerError if hello-ok is invalid.

    Protocol 3 omits `auth` for a client without a device.
    """
    if not response.ok:
        return Refused(response.error)
    match response.payload:
        case {
            "type": "hello-ok",
            "protocol": int(protocol),
            "server": {"connId": str(connection_id)},
        } as hello:
            auth = hello.get("auth") or {}
            return Admitted(
                hello=hello,
                connection_id=connection_id,
                protocol=protocol,
                role=_text(auth, "role"),
                scopes=tuple(auth.get("scopes", ())),
                device_token=_text(auth, "deviceToken"),
                issued_at_ms=auth.get("issuedAtMs", 0),
            )
    raise BrokenPeerError("the answer to connect is no hello-ok")


def request(method: str, params: object = None, request_id: str | None = None) -> Frame:
    """Create a request frame; params None are left out."""
    frame: Frame = {"type": "req", "id": request_id or str(uuid.uuid4()), "method": method}
    if params is not None:
        frame["params"] = params
    return frame


def connect_request(
    challenge: Challenge,
    key: DeviceKey | None,
    profile: Profile,
    credentials: Credentials | None = None,
    request_id: str | None = None,
) -> Frame:
    """Create the signed `connect` for a challenge; without a key it has no device."""
    params = connect_params(challenge, key, profile, credentials or Credentials())
    return request("connect", msgspec.to_builtins(params), request_id)


def connect_params(
    challenge: Challenge, key: DeviceKey | None, profile: Profile, credentials: Credentials
) -> ConnectParams:
    """Create the params of `connect`; the profile is not validated, so that tests can lie."""
    client = Client(
        id=cast("Any", profile.client_id),
        version=profile.version,
        platform=profile.platform,
        mode=cast("Any", profile.mode),
        display_name=_or_unset(profile.display_name),
        device_family=_or_unset(profile.device_family),
    )
    auth = Auth(
        token=_or_unset(credentials.token),
        device_token=_or_unset(credentials.device_token),
        bootstrap_token=_or_unset(credentials.bootstrap_token),
        password=_or_unset(credentials.password),
    )
    return ConnectParams(
        min_protocol=profile.min_protocol,
        max_protocol=profile.max_protocol,
        client=client,
        role=_or_unset(profile.role),
        scopes=_list_or_unset(profile.scopes),
        device=UNSET if key is None else _proof(challenge, key, profile, client, auth),
        auth=UNSET if credentials == Credentials() else auth,
        caps=_list_or_unset(profile.caps),
        commands=_list_or_unset(profile.commands),
        locale=_or_unset(profile.locale),
        user_agent=_or_unset(profile.user_agent),
    )


def _proof(
    challenge: Challenge, key: DeviceKey, profile: Profile, client: Client, auth: Auth
) -> Device:
    device = Device(
        id=key.device_id,
        public_key=key.public_key,
        signature="",
        signed_at=challenge.ts,
        nonce=challenge.nonce,
    )
    text = _PAYLOADS[profile.signature_version](
        device, client, profile.role or "operator", list(profile.scopes or ()), signed_token(auth)
    )
    return msgspec.structs.replace(device, signature=key.sign(text))


def _or_unset(text: str | None) -> str | UnsetType:
    return UNSET if text is None else text


def _list_or_unset(texts: tuple[str, ...] | None) -> list[str] | UnsetType:
    return UNSET if texts is None else list(texts)
