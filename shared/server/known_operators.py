"""Recognises operators' requests by credentials that were recently valid at an address. Pure."""

from __future__ import annotations

from enum import IntEnum
from hashlib import blake2b
from secrets import token_bytes
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.clock import Clock

REMEMBERED_OPERATORS: Final = 1024
REMEMBER_SECONDS: Final = 600.0
"""How long an operator's next requests have priority."""
_DIGEST_BYTES: Final = 16
_CREDENTIALS: Final = ("Authorization", "Cookie")


class Rank(IntEnum):
    """What a request is; a lower rank starts first."""

    HEALTH = 0
    OPERATOR = 1
    ANONYMOUS = 2


class KnownOperators:
    """Addresses, and digests of the credentials that were recently valid there."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: dict[tuple[str, bytes], float] = {}
        self._salt = token_bytes(_DIGEST_BYTES)

    def rank_of(self, key: str, headers: Mapping[str, str]) -> Rank:
        """Return the rank of a request that is not a health check."""
        if not self._until or not any(map(headers.__contains__, _CREDENTIALS)):
            return Rank.ANONYMOUS
        until = self._until.get((key, self._digest(headers)), 0.0)
        return Rank.OPERATOR if self._clock.monotonic() < until else Rank.ANONYMOUS

    def remember(self, key: str, headers: Mapping[str, str]) -> None:
        """Note that the credentials of a request are valid: later requests with them come first."""
        digest = self._digest(headers)
        self._until.pop((key, digest), None)
        while len(self._until) >= REMEMBERED_OPERATORS:
            del self._until[next(iter(self._until))]
        self._until[key, digest] = self._clock.monotonic() + REMEMBER_SECONDS

    def forget(self, key: str) -> None:
        """Forget an address that is locked out: response times must not reveal a right guess."""
        for known in [known for known in self._until if known[0] == key]:
            del self._until[known]

    def _digest(self, headers: Mapping[str, str]) -> bytes:
        given = "\0".join(headers.get(name, "") for name in _CREDENTIALS)
        return blake2b(
            given.encode("utf-8", "surrogateescape"), key=self._salt, digest_size=_DIGEST_BYTES
        ).digest()
