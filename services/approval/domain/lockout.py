"""Lock-out after wrong secrets: one count for all replicas, of distinct wrong values. Pure.

Each address has one guard in Redis, read with the records that a batch needs, so no replica keeps a
count or a lock of its own, and a message that is lost on the way locks or unlocks nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from services.approval.domain.records import VERSION_CHARACTERS
from shared.rpc.messages import ASKED_ANEW, DEVICE_TOKEN, SHARED_SECRET

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from shared.rpc.messages import AuthorizeDevice, ReportSecret
    from shared.secret_digests import SecretDigests

ADMIN_TOKEN: Final = "admin-token"  # noqa: S105 (the name of a credential class)
WINDOW_MS: Final = 60_000
FAILURES_LIMIT: Final = 10
"""So many distinct wrong values within the window lock the address out."""
LOCK_MS: Final = 300_000
REMEMBERED_MS: Final = 600_000
"""For how long after it came last a wrong value is remembered; brought again, it is no guess."""
REMEMBERED_LIMIT_VALUES: Final = 128
"""Wrong values of one class that are remembered for an address; the one unused longest goes."""

KNOWN_LIMIT_VALUES: Final = 4_096
"""Wrong values that one replica knows without asking Redis."""

_decode: Final = msgspec.msgpack.Decoder(dict[str, tuple[int, float, float]]).decode
_encode: Final = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class Lockout:
    """A lock that runs: of which class of secret, for which address (an IPv6 one's /64)."""

    credential: str
    address: str
    failures: int
    """Distinct wrong values that led to it."""
    since_ms: int
    until_ms: int


class FailureCounts:
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

    def counts_for(self, classes: Iterable[str], now_ms: int) -> bool:
        """Say whether a failure of one of these classes would count: not all are locked out."""
        return any(not self._left_ms(one, now_ms) for one in classes)

    def lockout(self, credential: str, address: str, now_ms: int) -> Lockout | None:
        """Return the lock of one class, if it runs."""
        entry = self._entries.get(credential)
        if entry is None or entry[2] <= now_ms:
            return None
        failures, since_ms, until_ms = entry
        return Lockout(credential, address, failures, int(since_ms), int(until_ms))

    def without(self, credential: str) -> bytes:
        """Return what is left to be stored without one class; empty: nothing."""
        left = {name: entry for name, entry in self._entries.items() if name != credential}
        return _encode(left) if left else b""

    def kept_ms(self, now_ms: int) -> int:
        """Return for how long what is held is to be kept, in ms."""
        ends = (max(since + WINDOW_MS, until) for _, since, until in self._entries.values())
        return max(1, int(max(ends, default=now_ms) - now_ms))

    def holds(self, classes: Sequence[str]) -> bool:
        """Say whether there is something that a success would clear."""
        return bool(self._entries) and any(one in self._entries for one in classes)

    def _left_ms(self, one: str, now_ms: int) -> int:
        entry = self._entries.get(one)
        return min(LOCK_MS, max(0, int(entry[2] - now_ms))) if entry else 0


NOTHING_HELD: Final = FailureCounts(None)
"""The guard of an address that did nothing wrong lately, as nearly all."""


class KnownValues:
    """Wrong values that Redis has remembered within the last minute, for this replica alone.

    A client that brings one again and again costs no more than one that is locked out. Nothing
    depends on it: what is not in here is looked up in Redis.
    """

    def __init__(self) -> None:
        self._until_ms: dict[tuple[str, str, str], float] = {}

    def hold(self, limit_key: str, wrong: Mapping[str, Sequence[str]], now_ms: float) -> bool:
        """Say whether all of these are known."""
        return all(
            self._until_ms.get((limit_key, name, value), 0.0) > now_ms
            for name, values in wrong.items()
            for value in values
        )

    def add(self, limit_key: str, wrong: Mapping[str, Sequence[str]], now_ms: float) -> None:
        """Take note of values that Redis remembers as of now."""
        for name, values in wrong.items():
            for value in values:
                self._until_ms.pop((limit_key, name, value), None)
                self._until_ms[limit_key, name, value] = now_ms + WINDOW_MS
        while len(self._until_ms) > KNOWN_LIMIT_VALUES:
            del self._until_ms[next(iter(self._until_ms))]

    def clear(self) -> None:
        """Forget them all."""
        self._until_ms.clear()


def read_guard(value: bytes | None) -> FailureCounts:
    """Decode what is held against an address; what cannot be read holds nothing."""
    if not value:
        return NOTHING_HELD
    try:
        return FailureCounts(value)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return NOTHING_HELD


@dataclass(frozen=True, slots=True)
class WrongValues:
    """The wrong values of one address, as they are stored: a version, and what it is of."""

    stored: bytes

    @property
    def version(self) -> str:
        """Return what a commit can expect; empty where nothing is stored."""
        return self.stored[:VERSION_CHARACTERS].decode(errors="replace")

    def under_another_version(self, now_ms: int) -> bytes:
        """Return the same values under the next version, to be stored."""
        known = self.version.isascii() and self.version.isdigit()
        following = int(self.version) + 1 if known else now_ms * 1000
        return b"%016d" % following + (self.stored[VERSION_CHARACTERS:] or _encode({}))


def index_member(credential: str, address: str) -> str:
    """Return how a lock stands in the index of lock-outs."""
    return f"{credential} {address}"


def parse_member(member: str) -> tuple[str, str]:
    """Return class and address of a lock in the index."""
    credential, _, address = member.partition(" ")
    return credential, address


def attempt_of(question: AuthorizeDevice) -> str:
    """Return the connection that asks: however often its question is asked anew, it failed once."""
    return question.call_id.partition(ASKED_ANEW)[0]


def succeeded_with(question: AuthorizeDevice) -> list[str]:
    """Return the class that an admitted attempt would have failed with: its lock keeps it out."""
    if question.method == "token" or question.candidate_field == "token":
        return [SHARED_SECRET]
    return [DEVICE_TOKEN]


def proven_with(question: AuthorizeDevice) -> list[str]:
    """Return the class of the secret that an admitted attempt has proven: that one is cleared."""
    return [SHARED_SECRET] if question.method == "token" else [DEVICE_TOKEN]


def failed_with(question: AuthorizeDevice) -> list[str]:
    """Return the classes of all secrets that a failed attempt has guessed.

    The one that it would have rested on goes first, and so does its lock.
    """
    guessed = succeeded_with(question)
    if question.wrong_secret and SHARED_SECRET not in guessed:
        guessed.append(SHARED_SECRET)
    return guessed


def guessed_with(
    question: AuthorizeDevice, digests: SecretDigests, *, denied: bool
) -> dict[str, list[str]]:
    """Return the wrong values to count, by class. `denied`: the device token is wrong, too.

    A device token is a guess at one device's token of one role, a gateway token the same guess
    whoever brings it.
    """
    if question.trusted:
        return {}
    shared = list(question.guesses)
    if question.guessed_secret and not shared:  # a gateway that does not send digests yet
        shared.append(attempt_of(question))
    guessed: dict[str, list[str]] = {}
    if denied:
        candidate = question.candidate
        if question.candidate_field != "token":
            bound_to = (question.device_id, question.role)
            guessed[DEVICE_TOKEN] = [digests.of(candidate, *bound_to)]
        if question.candidate_field == "token" or question.candidate_offered:
            shared.append(digests.of(candidate))
    if shared:
        guessed[SHARED_SECRET] = shared
    return guessed


def guessed_without_device(knock: ReportSecret) -> dict[str, list[str]]:
    """Return the wrong values of a client without a device token, by class."""
    guessed: dict[str, list[str]] = {}
    for guess in knock.guesses:
        guessed.setdefault(guess.credential, []).append(guess.digest)
    if not guessed and not knock.right:  # a gateway that does not send digests yet
        return {name: [knock.call_id] for name in knock.classes}
    return guessed


def without_locked_secret(
    question: AuthorizeDevice, guard: FailureCounts, now_ms: int
) -> AuthorizeDevice:
    """Return the question to judge: a gateway token that is locked out counts as a wrong one.

    Then a right token beside a device token is treated just as a wrong one, and nobody learns
    during a lock-out which of the two it was.
    """
    right = question.method == "token" and question.candidate
    if not right or not guard.locked_ms([SHARED_SECRET], now_ms):
        return question
    return replace(question, method="device-token", wrong_secret=True, guessed_secret=True)
