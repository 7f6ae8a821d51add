"""Keyed digests of wrong secrets: equal values are recognised, and no value is kept. Pure.

Lock-outs count distinct wrong values, so a value has to be recognised when it comes again. A plain
hash would let anybody with a copy of Redis try out short secrets at leisure; without BUS_SECRET,
which is not in Redis, nothing can be tried against these.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

DIGEST_BYTES: Final = 16


class SecretDigests:
    """Makes digests under a key that is derived from the first BUS_SECRET.

    Replicas that are not told yet of a new first value make other digests: until all are restarted,
    one wrong value may count twice.
    """

    __slots__ = ("_key",)

    def __init__(self, bus_secrets: Iterable[str]) -> None:
        first = next(iter(bus_secrets))
        self._key = blake2b(
            first.encode(), digest_size=32, person=b"latchkey.wrong.1"
        ).digest()  # the person tells this key from the one that seals messages

    def of(self, secret: str, *bound_to: str) -> str:
        """Return the digest of a secret; `bound_to`: what it would be the secret of."""
        digest = blake2b(digest_size=DIGEST_BYTES, key=self._key)
        for part in (*bound_to, secret):
            data = part.encode(errors="surrogatepass")
            digest.update(len(data).to_bytes(8, "big"))
            digest.update(data)
        return digest.hexdigest()
