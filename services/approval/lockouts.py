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
        """Return how long attempts with these classes are still locked out; 0: they are not."""
        if not self._entries:
            return 0
        untils = (self._entries[one][2] for one in classes if one in self._entries)
        left = int(max(untils, default=0) - now_ms)
        return min(LOCK_MS, max(0, left))

    def holds(self, classes: Sequence[str]) -> bool:
        """Say whether there is something that a success would clear."""
        return bool(self._entries) and any(one in self._entries for one in classes)


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
    """Return the classes that a failed attempt counts for: each secret it guessed."""
    guessed = succeeded_with(question)
    if question.wrong_secret and SHARED_SECRET not in guessed:
        guessed.append(SHARED_SECRET)
    return guessed


def without_locked_secret(question: Admission, guard: Guard, now_ms: int) -> Admission:
    """Return the question to judge: a gateway token that is locked out counts as a wrong one.

    Then a right token beside a device token is treated just as a wrong one, and nobody learns
    during a lock-out which of the two it was.
    """
    right = question.method == "token" and question.candidate
    if not right or not guard.locked_ms([SHARED_SECRET], now_ms):
        return question
    return replace(question, method="device-token", wrong_secret=True, guessed_secret=True)
