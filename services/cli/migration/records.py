"""A pairing record of OpenClaw as the device to import. Pure.

The input is not trusted: whatever has another form than OpenClaw writes is refused, with a reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, cast

import msgspec

from services.approval.imports.records import ImportDevice
from shared.protocol.limits import (
    DISPLAY_NAME_LIMIT_CHARACTERS,
    LABEL_LIMIT_CHARACTERS,
    TEXT_LIMIT_CHARACTERS,
)
from shared.protocol.signing import decode_public_key, encode_base64

APPROVED_VIA: Final = frozenset(
    {"owner", "silent", "trusted-cidr", "trusted-proxy", "ssh-verified", "bootstrap"}
)
RECORD_LIMIT_BYTES: Final = 32_768
"""Max. size of a device as JSON: a call holds a few."""
ROLES: Final = ("operator", "node")


class Unsound(Exception):
    """A record that cannot be imported; the message says why."""


@dataclass(frozen=True, slots=True)
class RefusedRecord:
    """A record that cannot be imported."""

    device_id: str
    why: str


def device_of(record: object, *, with_tokens: bool) -> ImportDevice | RefusedRecord:
    """Return the device of a record, or why there is none."""
    if not isinstance(record, dict):
        return RefusedRecord("", "its record is not an object")
    device_id = record.get("deviceId")
    named = device_id.strip() if isinstance(device_id, str) else ""
    try:
        device = msgspec.convert(_fields(record, named, with_tokens), ImportDevice)
    except Unsound as error:
        return RefusedRecord(named, str(error))
    except msgspec.ValidationError as error:
        return RefusedRecord(named, f"its record is invalid: {error}")
    if len(msgspec.json.encode(device)) > RECORD_LIMIT_BYTES:
        return RefusedRecord(named, "its record is too large")
    return device


def _fields(record: dict[str, Any], device_id: str, with_tokens: bool) -> dict[str, Any]:  # noqa: FBT001 (private)
    roles = _roles(record)
    role = record.get("role")
    via = record.get("approvedVia")
    return {
        "deviceId": device_id,
        "publicKey": _public_key(record.get("publicKey")),
        "displayName": _text(record, "displayName", DISPLAY_NAME_LIMIT_CHARACTERS),
        "operatorLabel": _text(record, "operatorLabel", LABEL_LIMIT_CHARACTERS),
        "clientId": _text(record, "clientId"),
        "clientMode": _text(record, "clientMode"),
        "platform": _text(record, "platform"),
        "deviceFamily": _text(record, "deviceFamily"),
        "address": _text(record, "remoteIp"),
        "role": role if role in roles else roles[0],
        "roles": roles,
        "scopes": _scopes(record.get("approvedScopes", record.get("scopes", []))),
        "tokens": _tokens(record.get("tokens", {}), with_tokens),
        "createdAtMs": record.get("createdAtMs"),
        "approvedAtMs": record.get("approvedAtMs"),
        "approvedVia": via if via in APPROVED_VIA else "owner",
    }


def _public_key(text: object) -> str:
    key = decode_public_key(text) if isinstance(text, str) else None
    if key is None:
        message = "its public key is invalid"
        raise Unsound(message)
    return encode_base64(key)


def _roles(record: dict[str, Any]) -> list[str]:
    listed, single = record.get("roles", []), record.get("role")
    if not isinstance(listed, list):
        message = "its roles are not a list"
        raise Unsound(message)
    found = [one for one in (*listed, single) if one is not None]
    for role in found:
        if role not in ROLES:
            message = f"its role {role!r:.40} is unknown"
            raise Unsound(message)
    if not found:
        message = "it has no role"
        raise Unsound(message)
    return list(dict.fromkeys(found))


def _scopes(value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        message = "its scopes are not a list of texts"
        raise Unsound(message)
    return list(dict.fromkeys(cast("list[str]", value)))


def _tokens(value: object, with_tokens: bool) -> list[dict[str, Any]]:  # noqa: FBT001 (private)
    if not isinstance(value, dict):
        message = "its tokens are not an object"
        raise Unsound(message)
    return [_token(role, token, with_tokens) for role, token in value.items()]


def _token(role: object, token: object, with_tokens: bool) -> dict[str, Any]:  # noqa: FBT001 (private)
    if not isinstance(token, dict):
        message = "one of its tokens is not an object"
        raise Unsound(message)
    times = {
        name: token[name] for name in ("rotatedAtMs", "revokedAtMs") if token.get(name) is not None
    }
    secret = token.get("token")
    is_usable = with_tokens and not token.get("revokedAtMs") and isinstance(secret, str)
    return {
        "role": role,
        "scopes": _scopes(token.get("scopes", [])),
        "createdAtMs": token.get("createdAtMs"),
        **times,
        **({"token": secret} if is_usable and secret else {}),
    }


def _text(record: dict[str, Any], name: str, limit: int = TEXT_LIMIT_CHARACTERS) -> str:
    """Return a text that is only shown or compared; one that is too long is cut."""
    value = record.get(name)
    return value[:limit] if isinstance(value, str) else ""
