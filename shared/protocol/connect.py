"""The `connect` request as typed values; unknown fields are ignored."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from shared.protocol.limits import (
    LIST_LIMIT_ITEMS,
    SCOPE_LIMIT_CHARACTERS,
    SCOPES_LIMIT_ITEMS,
    TEXT_LIMIT_CHARACTERS,
)

CLIENT_IDS: Final = (
    "webchat-ui",
    "openclaw-control-ui",
    "openclaw-browser-copilot",
    "openclaw-tui",
    "webchat",
    "cli",
    "gateway-client",
    "openclaw-macos",
    "openclaw-linux",
    "openclaw-ios",
    "openclaw-watchos",
    "openclaw-android",
    "node-host",
    "openclaw-worker",
    "test",
    "fingerprint",
    "openclaw-probe",
)
CLIENT_MODES: Final = ("webchat", "cli", "ui", "backend", "node", "worker", "probe", "test")
DOCTOR_NAME: Final = "latchkey doctor"
"""The display name of the checks of `latchkey doctor`."""
BROWSER_CLIENT_IDS: Final = frozenset(
    {"openclaw-control-ui", "openclaw-browser-copilot", "webchat", "webchat-ui"}
)
CONTROL_UI_CLIENT_IDS: Final = frozenset({"openclaw-control-ui", "openclaw-tui"})

Role = Literal["operator", "node"]
"""The roles a device can hold."""

_Text = Annotated[str, Meta(min_length=1, max_length=TEXT_LIMIT_CHARACTERS)]
_FreeText = Annotated[str, Meta(min_length=1)]
_Scope = Annotated[str, Meta(min_length=1, max_length=SCOPE_LIMIT_CHARACTERS)]
_Scopes = Annotated[list[_Scope], Meta(max_length=SCOPES_LIMIT_ITEMS)]
_Texts = Annotated[list[_Text], Meta(max_length=LIST_LIMIT_ITEMS)]


class Client(msgspec.Struct, rename="camel", frozen=True):
    """The client's description of itself; untrusted until the signature is verified."""

    id: Literal[
        "webchat-ui",
        "openclaw-control-ui",
        "openclaw-browser-copilot",
        "openclaw-tui",
        "webchat",
        "cli",
        "gateway-client",
        "openclaw-macos",
        "openclaw-linux",
        "openclaw-ios",
        "openclaw-watchos",
        "openclaw-android",
        "node-host",
        "openclaw-worker",
        "test",
        "fingerprint",
        "openclaw-probe",
    ]
    version: _Text
    platform: _Text
    mode: Literal["webchat", "cli", "ui", "backend", "node", "worker", "probe", "test"]
    display_name: _FreeText | UnsetType = UNSET
    device_family: _Text | UnsetType = UNSET
    model_identifier: _Text | UnsetType = UNSET
    instance_id: _Text | UnsetType = UNSET
    build_id: Annotated[str, Meta(min_length=1, max_length=96)] | UnsetType = UNSET
    time_zone: Annotated[str, Meta(min_length=1, max_length=64)] | UnsetType = UNSET


class Device(msgspec.Struct, rename="camel", frozen=True):
    """Proof of the device's identity: its key and a signature over this connection's nonce."""

    id: _FreeText
    public_key: _FreeText
    signature: _FreeText
    signed_at: Annotated[int, Meta(ge=0)]
    nonce: _FreeText


class Auth(msgspec.Struct, rename="camel", frozen=True):
    """The secrets that a client offers; any of them may be empty."""

    token: str | UnsetType = UNSET
    device_token: str | UnsetType = UNSET
    bootstrap_token: str | UnsetType = UNSET
    password: str | UnsetType = UNSET
    approval_runtime_token: str | UnsetType = UNSET
    agent_runtime_identity_token: str | UnsetType = UNSET


class ConnectParams(msgspec.Struct, rename="camel", frozen=True):
    """The params of `connect`."""

    min_protocol: Annotated[int, Meta(ge=1)]
    max_protocol: Annotated[int, Meta(ge=1)]
    client: Client
    role: _FreeText | UnsetType = UNSET
    scopes: _Scopes | UnsetType = UNSET
    device: Device | UnsetType = UNSET
    auth: Auth | UnsetType = UNSET
    caps: _Texts | UnsetType = UNSET
    commands: _Texts | UnsetType = UNSET
    permissions: Annotated[dict[str, bool], Meta(max_length=LIST_LIMIT_ITEMS)] | UnsetType = UNSET
    path_env: str | UnsetType = UNSET
    locale: str | UnsetType = UNSET
    user_agent: str | UnsetType = UNSET


class ConnectFrame(msgspec.Struct, frozen=True):
    """The first frame a client sends."""

    type: Literal["req"]
    id: _FreeText
    method: Literal["connect"]
    params: ConnectParams
    traceparent: Annotated[str, Meta(max_length=128)] | UnsetType = UNSET
    expected_profile_id: Annotated[str, Meta(min_length=1, max_length=128)] | UnsetType = (
        msgspec.field(default=UNSET, name="expectedProfileId")
    )


_decode: Final = msgspec.json.Decoder(ConnectFrame).decode


def decode_connect(text: bytes) -> ConnectFrame | None:
    """Decode a valid `connect` frame, or return None.

    None means only that the fast path failed: `schema.first_frame_problem` finds the reason.
    """
    try:
        if not text.isascii():
            text.decode()
        return _decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def connect_from(frame: dict[str, Any]) -> ConnectFrame:
    """Convert a parsed frame that matches the schema (integers may be written as 4.0)."""
    params = _whole(frame["params"], "minProtocol", "maxProtocol")
    if "device" in params:
        params["device"] = _whole(params["device"], "signedAt")
    return msgspec.convert({**frame, "params": params}, ConnectFrame)


def _whole(values: dict[str, Any], *names: str) -> dict[str, Any]:
    return {**values, **{name: int(values[name]) for name in names}}
