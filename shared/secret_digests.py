"""Keyed digests of wrong secrets: equal values are recognised, but not stored. Pure.

Lockouts count distinct wrong values, so a repeated value must be recognised. With a plain hash, an
attacker with a copy of Redis could test short secrets offline; these digests are useless without
BUS_SECRET, which is not in Redis.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

DIGEST_BYTES: Final = 16


class SecretDigests:
    """Computes digests under a key derived from the first BUS_SECRET.

    While the first value is being changed, replicas that are not restarted yet compute other
    digests, so one wrong value may count twice.
    """

    __slots__ = ("_key",)

    def __init__(self, bus_secrets: Iterable[str]) -> None:
        first = next(iter(bus_secrets))
        self._key = blake2b(
            first.encode(), digest_size=32, person=b"latchkey.wrong.1"
        ).digest()  # personalised: differs from the key that seals messages

    def of(self, secret: str, *bound_to: str) -> str:
        """Return the digest of a secret; `bound_to` is what the secret would belong to."""
        digest = blake2b(digest_size=DIGEST_BYTES, key=self._key)
        for part in (*bound_to, secret):
            data = part.encode(errors="surrogatepass")
            digest.update(len(data).to_bytes(8, "big"))
            digest.update(data)
        return digest.hexdigest()
