"""Lock-out after wrong secrets: one count for all replicas (contract §12, design §5). Pure.

Each address has one guard in Redis, read with the records that a batch needs, so no replica keeps a
count or a lock of its own, and a message that is lost on the way locks or unlocks nobody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from shared.messages import ASKED_ANEW, DEVICE_TOKEN, SHARED_SECRET

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.messages import Admission

WINDOW_MS: Final = 60_000
FAILURES_LIMIT: Final = 10
"""So many failures within the window lock the address out."""
LOCK_MS: Final = 300_000

_decode: Final = msgspec.msgpack.Decoder(dict[str, tuple[int, float, float]]).decode


class Guard:
    """What is held against one address: per class, failures, since when, locked until when."""

    __slots__ = ("_entries",)

    def __init__(self, value: bytes | None) -> None:
        self._entries = _decode(value) if value else {}

    def locked_ms(self, classes: Sequence[str], now_ms: int) -> int:
        """Return how long attempts with these classes are still locked out; 0: they are not.

        The first that is locked counts: another secret that is wrong as well must not change what
        is told.
        """
        return next(filter(None, (self._left_ms(one, now_ms) for one in classes)), 0)

    def unlocked(self, classes: Sequence[str], now_ms: int) -> list[str]:
        """Return those of these classes that are not locked out: failures count for them."""
        return [one for one in classes if not self._left_ms(one, now_ms)]

    def holds(self, classes: Sequence[str]) -> bool:
        """Say whether there is something that a success would clear."""
        return bool(self._entries) and any(one in self._entries for one in classes)

    def _left_ms(self, one: str, now_ms: int) -> int:
        entry = self._entries.get(one)
        return min(LOCK_MS, max(0, int(entry[2] - now_ms))) if entry else 0


NOTHING_HELD: Final = Guard(None)
"""The guard of an address that did nothing wrong lately, as nearly all."""


def attempt_of(question: Admission) -> str:
    """Return the connection that asks: however often its question is asked anew, it failed once."""
    return question.call_id.partition(ASKED_ANEW)[0]


def succeeded_with(question: Admission) -> list[str]:
    """Return the class that an admitted attempt would have failed with: its lock keeps it out."""
    if question.method == "token" or question.candidate_field == "token":
        return [SHARED_SECRET]
    return [DEVICE_TOKEN]


def proven_with(question: Admission) -> list[str]:
    """Return the class of the secret that an admitted attempt has proven: that one is cleared."""
    return [SHARED_SECRET] if question.method == "token" else [DEVICE_TOKEN]


def failed_with(question: Admission) -> list[str]:
    """Return the classes that a failed attempt counts for: each secret it guessed.

    The one that it would have rested on goes first, and so does its lock.
    """
    guessed = succeeded_with(question)
    if question.wrong_secret and SHARED_SECRET not in guessed:
        guessed.append(SHARED_SECRET)
    return guessed


def guessed_with(question: Admission, *, denied: bool) -> list[str]:
    """Return the classes of the wrong secrets to count. `denied`: the candidate is wrong, too."""
    if question.trusted:
        return []
    if denied:
        return failed_with(question)
    return [SHARED_SECRET] if question.guessed_secret else []


def without_locked_secret(question: Admission, guard: Guard, now_ms: int) -> Admission:
    """Return the question to judge: a gateway token that is locked out counts as a wrong one.

    Then a right token beside a device token is treated just as a wrong one, and nobody learns
    during a lock-out which of the two it was.
    """
    right = question.method == "token" and question.candidate
    if not right or not guard.locked_ms([SHARED_SECRET], now_ms):
        return question
    return replace(question, method="device-token", wrong_secret=True, guessed_secret=True)
