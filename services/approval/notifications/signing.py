"""Signatures of webhooks as defined by Standard Webhooks. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

PREFIX: Final = "whsec_"
KEY_MIN_BYTES: Final = 24
KEY_MAX_BYTES: Final = 64


class SigningKeys:
    """The keys of WEBHOOK_SECRETS. Each signs, so that receivers can change theirs. Never shown."""

    __slots__ = ("_keys",)

    def __init__(self, keys: Sequence[bytes] = ()) -> None:
        self._keys = tuple(keys)

    def __repr__(self) -> str:
        return f"<{len(self._keys)} signing keys>"

    def __bool__(self) -> bool:
        return bool(self._keys)

    def headers(self, message_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
        """Return the headers of one attempt; without keys there is no signature."""
        headers = {"webhook-id": message_id, "webhook-timestamp": str(timestamp_s)}
        if self._keys:
            content = f"{message_id}.{timestamp_s}.".encode() + body
            headers["webhook-signature"] = " ".join(_sign(key, content) for key in self._keys)
        return headers


def read_key(secret: str) -> bytes | None:
    """Return the key in a secret of the form `whsec_` and base64; None if it is not one."""
    if not secret.startswith(PREFIX):
        return None
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if KEY_MIN_BYTES <= len(key) <= KEY_MAX_BYTES else None


def _sign(key: bytes, content: bytes) -> str:
    return "v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()
