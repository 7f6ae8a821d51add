"""Device tokens, derived from a random id and never stored. Pure."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import uuid
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from shared.protocol.signing import encode_base64

if TYPE_CHECKING:
    from shared.settings.environment import Secrets

TOKENS_REMEMBERED: Final = 2_048
"""Max. derived tokens cached for devices that reconnect."""

_RANDOM_BYTES: Final = 16


def draw_token_id() -> str:
    """Return a new token id: 128 random bits, so neither an id nor its token ever recurs."""
    return secrets.token_hex(_RANDOM_BYTES)


def draw_request_id() -> str:
    """Return a new request id: 128 random bits, written like a UUID."""
    return str(uuid.UUID(bytes=secrets.token_bytes(_RANDOM_BYTES)))


def draw_token_generation() -> str:
    """Return a new token generation: 64 random bits, not secret, unique per device."""
    return secrets.token_hex(8)


class TokenKeys:
    """Derives and verifies device tokens with TOKEN_SECRET."""

    def __init__(self, token_secrets: Secrets) -> None:
        # Copying an HMAC that is already keyed costs half as much as creating one per token.
        self._keys = tuple(
            hmac.new(secret.encode(), digestmod=hashlib.sha256) for secret in token_secrets
        )

    def derive(self, device_id: str, role: str, token_id: str) -> str:
        """Return the token: 43 characters of base64url."""
        return _derived(self._keys[0], device_id, role, token_id)

    def imported_digest(self, token: str, device_id: str, role: str) -> str:
        """Return the digest to store of a token that another system issued to a device."""
        return _imported_digest(self._keys[0], token, device_id, role)

    def verify_imported(self, candidate: str, device_id: str, role: str, digest: str) -> bool:
        """Return whether the candidate is the token with this digest under any of the secrets."""
        found = False
        for key in self._keys:
            expected = _imported_digest(key, candidate, device_id, role)
            found |= hmac.compare_digest(expected.encode(), digest.encode())
        return found

    def verify(self, candidate: str, device_id: str, role: str, token_id: str) -> bool:
        """Return whether the candidate is that token under any of the secrets."""
        given = candidate.encode()
        found = False
        for key in self._keys:
            expected = _derived(key, device_id, role, token_id).encode()
            found |= hmac.compare_digest(expected, given)
        return found


@lru_cache(TOKENS_REMEMBERED)
def _derived(key: hmac.HMAC, device_id: str, role: str, token_id: str) -> str:
    keyed = key.copy()
    keyed.update(f"latchkey device token 1|{device_id}|{role}|{token_id}".encode())
    return encode_base64(keyed.digest())


def _imported_digest(key: hmac.HMAC, token: str, device_id: str, role: str) -> str:
    keyed = key.copy()
    keyed.update(f"latchkey imported token 1|{device_id}|{role}|".encode())
    keyed.update(token.encode(errors="surrogatepass"))
    return encode_base64(keyed.digest())
