"""Lock-out after wrong secrets: distinct wrong values, counted across all replicas. Pure.

Redis holds one set of failure counts per address, read together with the records of a batch. No
replica keeps its own counts or locks, so a lost message neither locks nor unlocks an address.
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
"""This many distinct wrong values within the window lock the address out."""
LOCK_MS: Final = 300_000
REMEMBERED_MS: Final = 600_000
"""How long after its last use a wrong value is remembered; repeating it does not count again."""
REMEMBERED_LIMIT_VALUES: Final = 128
"""Max. wrong values remembered per address and class; the least recently used is dropped."""

KNOWN_LIMIT_VALUES: Final = 4_096
"""Max. wrong values that one replica caches to avoid asking Redis."""

_decode: Final = msgspec.msgpack.Decoder(dict[str, tuple[int, float, float]]).decode
_encode: Final = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class Lockout:
    """An active lock-out of an address (for IPv6, its /64) for one credential class."""

    credential: str
    address: str
    failures: int
    """Distinct wrong values that triggered it."""
    since_ms: int
    until_ms: int


class FailureCounts:
    """Failures of one address: per class the count, since when, and locked until when."""

    __slots__ = ("_entries",)

    def __init__(self, value: bytes | None) -> None:
        self._entries = _decode(value) if value else {}

    def locked_ms(self, classes: Sequence[str], now_ms: int) -> int:
        """Return for how many ms attempts with these classes are still locked out; 0 if not.

        The first locked class decides, so that a second wrong secret does not change the answer.
        """
        return next(filter(None, (self._left_ms(one, now_ms) for one in classes)), 0)

    def counts_for(self, classes: Iterable[str], now_ms: int) -> bool:
        """Return whether a failure would count, that is, not all of these classes are locked."""
        return any(not self._left_ms(one, now_ms) for one in classes)

    def lockout(self, credential: str, address: str, now_ms: int) -> Lockout | None:
        """Return the lock-out of one class if it is active."""
        entry = self._entries.get(credential)
        if entry is None or entry[2] <= now_ms:
            return None
        failures, since_ms, until_ms = entry
        return Lockout(credential, address, failures, int(since_ms), int(until_ms))

    def without(self, credential: str) -> bytes:
        """Encode the counts without one class; empty if nothing remains."""
        left = {name: entry for name, entry in self._entries.items() if name != credential}
        return _encode(left) if left else b""

    def kept_ms(self, now_ms: int) -> int:
        """Return how long the counts must be kept, in ms."""
        ends = (max(since + WINDOW_MS, until) for _, since, until in self._entries.values())
        return max(1, int(max(ends, default=now_ms) - now_ms))

    def holds(self, classes: Sequence[str]) -> bool:
        """Return whether a success would clear anything."""
        return bool(self._entries) and any(one in self._entries for one in classes)

    def _left_ms(self, one: str, now_ms: int) -> int:
        entry = self._entries.get(one)
        return min(LOCK_MS, max(0, int(entry[2] - now_ms))) if entry else 0


NOTHING_HELD: Final = FailureCounts(None)
"""Counts of an address without recent failures."""


class KnownValues:
    """Cache, per replica, of wrong values that Redis recorded within the last minute.

    It makes a client that repeats a wrong value as cheap as one that is locked out. Correctness
    does not depend on it: values that are not cached are looked up in Redis.
    """

    def __init__(self) -> None:
        self._until_ms: dict[tuple[str, str, str], float] = {}

    def hold(self, limit_key: str, wrong: Mapping[str, Sequence[str]], now_ms: float) -> bool:
        """Return whether all of these values are cached."""
        return all(
            self._until_ms.get((limit_key, name, value), 0.0) > now_ms
            for name, values in wrong.items()
            for value in values
        )

    def add(self, limit_key: str, wrong: Mapping[str, Sequence[str]], now_ms: float) -> None:
        """Cache values that Redis has just recorded."""
        for name, values in wrong.items():
            for value in values:
                self._until_ms.pop((limit_key, name, value), None)
                self._until_ms[limit_key, name, value] = now_ms + WINDOW_MS
        while len(self._until_ms) > KNOWN_LIMIT_VALUES:
            del self._until_ms[next(iter(self._until_ms))]

    def clear(self) -> None:
        """Drop all cached values."""
        self._until_ms.clear()


def read_guard(value: bytes | None) -> FailureCounts:
    """Decode the failure counts of an address; treat unreadable data as no failures."""
    if not value:
        return NOTHING_HELD
    try:
        return FailureCounts(value)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return NOTHING_HELD


@dataclass(frozen=True, slots=True)
class WrongValues:
    """The stored wrong values of one address: a version followed by the values."""

    stored: bytes

    @property
    def version(self) -> str:
        """Return the version for a commit to expect; empty if nothing is stored."""
        return self.stored[:VERSION_CHARACTERS].decode(errors="replace")

    def under_another_version(self, now_ms: int) -> bytes:
        """Return the same values with the next version, ready to store."""
        known = self.version.isascii() and self.version.isdigit()
        following = int(self.version) + 1 if known else now_ms * 1000
        return b"%016d" % following + (self.stored[VERSION_CHARACTERS:] or _encode({}))


def index_member(credential: str, address: str) -> str:
    """Return the member of the lock-out index for a lock-out."""
    return f"{credential} {address}"


def parse_member(member: str) -> tuple[str, str]:
    """Return credential class and address of a member of the index."""
    credential, _, address = member.partition(" ")
    return credential, address


def attempt_of(question: AuthorizeDevice) -> str:
    """Return an id of the connection's attempt; retries of its request count as one failure."""
    return question.call_id.partition(ASKED_ANEW)[0]


def succeeded_with(question: AuthorizeDevice) -> list[str]:
    """Return the credential class the attempt rests on; a lock-out of it rejects the attempt."""
    if question.method == "token" or question.candidate_field == "token":
        return [SHARED_SECRET]
    return [DEVICE_TOKEN]


def proven_with(question: AuthorizeDevice) -> list[str]:
    """Return the class of the secret an admitted attempt has proven; its failures are cleared."""
    return [SHARED_SECRET] if question.method == "token" else [DEVICE_TOKEN]


def failed_with(question: AuthorizeDevice) -> list[str]:
    """Return the classes of all secrets that a failed attempt guessed.

    The class the attempt rests on comes first, so its lock-out takes precedence.
    """
    guessed = succeeded_with(question)
    if question.gateway_token_failed and SHARED_SECRET not in guessed:
        guessed.append(SHARED_SECRET)
    return guessed


def guessed_with(
    question: AuthorizeDevice, digests: SecretDigests, *, denied: bool
) -> dict[str, list[str]]:
    """Return the wrong values to count, by class. `denied`: the device token is wrong, too.

    A wrong device token is a guess at one device's token for one role; a wrong gateway token is
    the same guess from any device.
    """
    if question.trusted:
        return {}
    shared = list(question.guesses)
    if question.wrong_gateway_token and not shared:  # sent without digests
        shared.append(attempt_of(question))
    guessed: dict[str, list[str]] = {}
    if denied:
        candidate = question.token_candidate
        if question.candidate_field != "token":
            bound_to = (question.device_id, question.role)
            guessed[DEVICE_TOKEN] = [digests.of(candidate, *bound_to)]
        if question.candidate_field == "token" or question.candidate_offered:
            shared.append(digests.of(candidate))
    if shared:
        guessed[SHARED_SECRET] = shared
    return guessed


def guessed_without_device(report: ReportSecret) -> dict[str, list[str]]:
    """Return the wrong values that a client without a device token sent, by class."""
    guessed: dict[str, list[str]] = {}
    for guess in report.guesses:
        guessed.setdefault(guess.credential, []).append(guess.digest)
    if not guessed and not report.right:  # sent without digests
        return {name: [report.call_id] for name in report.classes}
    return guessed


def without_locked_secret(
    question: AuthorizeDevice, guard: FailureCounts, now_ms: int
) -> AuthorizeDevice:
    """Return the request with a locked-out gateway token treated as wrong.

    A correct token beside a device token is then handled like a wrong one, so the response does
    not reveal during a lock-out which it was.
    """
    right = question.method == "token" and question.token_candidate
    if not right or not guard.locked_ms([SHARED_SECRET], now_ms):
        return question
    return replace(
        question, method="device-token", gateway_token_failed=True, wrong_gateway_token=True
    )
