"""What is held against an address after wrong secrets, as it is read (contract §12)."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import pytest

from services.approval.lockouts import LOCK_MS, Guard, failed_with, proven_with, succeeded_with
from shared.messages import (
    BOOTSTRAP_TOKEN,
    DEVICE_TOKEN,
    SHARED_SECRET,
    Admission,
    ClientInfo,
)

NOW = 1_700_000_000_000


def guard(**entries: tuple[int, int, int]) -> Guard:
    """Return a guard by what is held: class -> failures, since when, locked until when."""
    held = {name.replace("_", "-"): entry for name, entry in entries.items()}
    return Guard(msgspec.msgpack.encode(held))


@dataclass(frozen=True)
class Tried:
    """What a device brought: by which method, in which field, beside a wrong gateway token."""

    method: str
    candidate_field: str = ""
    wrong_secret: bool = False

    def question(self) -> Admission:
        client = ClientInfo("cli", "cli", "1", "linux")
        return Admission(
            call_id="boot:1",
            device_id="d",
            public_key="k",
            role="operator",
            scopes=[],
            client=client,
            method=self.method,
            address="203.0.113.7",
            protocol=4,
            candidate="x" if self.candidate_field else "",
            candidate_field=self.candidate_field,
            wrong_secret=self.wrong_secret,
        )


class TestGuard:
    def test_nothing_is_held_against_who_never_failed(self) -> None:
        empty = Guard(None)
        assert empty.locked_ms([SHARED_SECRET, DEVICE_TOKEN], NOW) == 0
        assert not empty.holds([SHARED_SECRET])

    def test_failures_alone_lock_nobody(self) -> None:
        held = guard(shared_secret=(9, NOW, 0))
        assert held.locked_ms([SHARED_SECRET], NOW) == 0
        assert held.holds([SHARED_SECRET])

    @pytest.mark.parametrize("passed", [0, 1, 5, LOCK_MS - 1])
    def test_a_lock_counts_down(self, passed: int) -> None:
        held = guard(shared_secret=(0, NOW, NOW + LOCK_MS))
        assert held.locked_ms([SHARED_SECRET], NOW + passed) == LOCK_MS - passed

    @pytest.mark.parametrize("passed", [LOCK_MS, LOCK_MS + 1, 10 * LOCK_MS])
    def test_and_ends(self, passed: int) -> None:
        held = guard(shared_secret=(0, NOW, NOW + LOCK_MS))
        assert held.locked_ms([SHARED_SECRET], NOW + passed) == 0

    def test_a_clock_that_lags_promises_no_more_than_five_minutes(self) -> None:
        held = guard(shared_secret=(0, NOW, NOW + LOCK_MS))
        assert held.locked_ms([SHARED_SECRET], NOW - 70) == LOCK_MS

    def test_classes_are_separate(self) -> None:
        held = guard(shared_secret=(0, NOW, NOW + LOCK_MS))
        assert held.locked_ms([DEVICE_TOKEN], NOW) == 0
        assert held.locked_ms([BOOTSTRAP_TOKEN], NOW) == 0
        assert not held.holds([DEVICE_TOKEN])

    def test_of_several_classes_the_first_that_is_locked_counts(self) -> None:
        """Else how long the lock lasts would tell that the second was wrong as well."""
        held = guard(shared_secret=(0, NOW, NOW + 10), device_token=(0, NOW, NOW + 20))
        assert held.locked_ms([SHARED_SECRET, DEVICE_TOKEN], NOW) == 10
        assert held.locked_ms([DEVICE_TOKEN, SHARED_SECRET], NOW) == 20
        assert held.locked_ms([BOOTSTRAP_TOKEN, SHARED_SECRET], NOW) == 10

    def test_failures_count_for_those_that_are_not_locked(self) -> None:
        held = guard(shared_secret=(0, NOW, NOW + 10), device_token=(3, NOW, 0))
        classes = [BOOTSTRAP_TOKEN, SHARED_SECRET, DEVICE_TOKEN]
        assert [one for one in classes if held.counts_for([one], NOW)] == [
            BOOTSTRAP_TOKEN,
            DEVICE_TOKEN,
        ]
        assert held.counts_for(classes, NOW)
        assert not held.counts_for([SHARED_SECRET], NOW)
        assert not held.counts_for([], NOW)
        assert held.counts_for([SHARED_SECRET], NOW + 10)


RIGHT_TOKEN = Tried("token")
DEVICE_TOKEN_ALONE = Tried("device-token", "deviceToken")
IN_THE_TOKEN_FIELD = Tried("device-token", "token", wrong_secret=True)
BOTH_FIELDS = Tried("device-token", "deviceToken", wrong_secret=True)


class TestClasses:
    @pytest.mark.parametrize(
        ("tried", "rests_on", "guessed", "proven"),
        [
            (RIGHT_TOKEN, [SHARED_SECRET], [SHARED_SECRET], [SHARED_SECRET]),
            (DEVICE_TOKEN_ALONE, [DEVICE_TOKEN], [DEVICE_TOKEN], [DEVICE_TOKEN]),
            (IN_THE_TOKEN_FIELD, [SHARED_SECRET], [SHARED_SECRET], [DEVICE_TOKEN]),
            (BOTH_FIELDS, [DEVICE_TOKEN], [DEVICE_TOKEN, SHARED_SECRET], [DEVICE_TOKEN]),
        ],
        ids=["gateway token", "device token", "in the token field", "one in each field"],
    )
    def test_what_an_attempt_counts_for(
        self, tried: Tried, rests_on: list[str], guessed: list[str], proven: list[str]
    ) -> None:
        question = tried.question()
        assert succeeded_with(question) == rests_on
        assert failed_with(question) == guessed
        assert proven_with(question) == proven
