"""How the failures counted against an address are evaluated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from services.approval.domain.lockout import (
    LOCK_MS,
    FailureCounts,
    WrongValues,
    failed_with,
    guessed_with,
    guessed_without_device,
    proven_with,
    succeeded_with,
)
from shared.rpc.messages import (
    BOOTSTRAP_TOKEN,
    DEVICE_TOKEN,
    SHARED_SECRET,
    AuthorizeDevice,
    ClientInfo,
    ReportSecret,
)
from shared.secret_digests import SecretDigests

NOW = 1_700_000_000_000


def guard(**entries: tuple[int, int, int]) -> FailureCounts:
    """Return FailureCounts from class -> failures, start, locked until."""
    held = {name.replace("_", "-"): entry for name, entry in entries.items()}
    return FailureCounts(msgspec.msgpack.encode(held))


@dataclass(frozen=True)
class Tried:
    """A device's credentials: method, field, and whether a wrong gateway token came with them."""

    method: str
    candidate_field: str = ""
    gateway_token_failed: bool = False

    def question(self) -> AuthorizeDevice:
        client = ClientInfo("cli", "cli", "1", "linux")
        return AuthorizeDevice(
            call_id="boot:1",
            device_id="d",
            public_key="k",
            role="operator",
            scopes=[],
            client=client,
            method=self.method,
            address="203.0.113.7",
            protocol=4,
            token_candidate="x" if self.candidate_field else "",
            candidate_field=self.candidate_field,
            gateway_token_failed=self.gateway_token_failed,
        )


class TestFailureCounts:
    def test_nothing_is_counted_without_failures(self) -> None:
        empty = FailureCounts(None)
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
    def test_a_lock_out_ends_at_its_time(self, passed: int) -> None:
        held = guard(shared_secret=(0, NOW, NOW + LOCK_MS))
        assert held.locked_ms([SHARED_SECRET], NOW + passed) == 0

    def test_a_clock_that_lags_promises_no_more_than_five_minutes(self) -> None:
        held = guard(shared_secret=(0, NOW, NOW + LOCK_MS))
        assert held.locked_ms([SHARED_SECRET], NOW - 70) == LOCK_MS

    def test_classes_of_secrets_are_counted_separately(self) -> None:
        held = guard(shared_secret=(0, NOW, NOW + LOCK_MS))
        assert held.locked_ms([DEVICE_TOKEN], NOW) == 0
        assert held.locked_ms([BOOTSTRAP_TOKEN], NOW) == 0
        assert not held.holds([DEVICE_TOKEN])

    def test_the_first_locked_of_several_classes_counts(self) -> None:
        """Otherwise the length of the lock would reveal that the second was wrong as well."""
        held = guard(shared_secret=(0, NOW, NOW + 10), device_token=(0, NOW, NOW + 20))
        assert held.locked_ms([SHARED_SECRET, DEVICE_TOKEN], NOW) == 10
        assert held.locked_ms([DEVICE_TOKEN, SHARED_SECRET], NOW) == 20
        assert held.locked_ms([BOOTSTRAP_TOKEN, SHARED_SECRET], NOW) == 10

    def test_failures_count_for_those_that_are_not_locked(self) -> None:
        held = guard(shared_secret=(0, NOW, NOW + 10), device_token=(3, NOW, 0))
        classes = [BOOTSTRAP_TOKEN, SHARED_SECRET, DEVICE_TOKEN]
        assert [item for item in classes if held.counts_for([item], NOW)] == [
            BOOTSTRAP_TOKEN,
            DEVICE_TOKEN,
        ]
        assert held.counts_for(classes, NOW)
        assert not held.counts_for([SHARED_SECRET], NOW)
        assert not held.counts_for([], NOW)
        assert held.counts_for([SHARED_SECRET], NOW + 10)


RIGHT_TOKEN = Tried("token")
DEVICE_TOKEN_ALONE = Tried("device-token", "deviceToken")
IN_THE_TOKEN_FIELD = Tried("device-token", "token", gateway_token_failed=True)
BOTH_FIELDS = Tried("device-token", "deviceToken", gateway_token_failed=True)


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


DIGESTS = SecretDigests(["the bus secret of these tests, which is long enough"])


class TestWrongValues:
    """The guessed values counted for an attempt, by class."""

    def guessed(self, tried: Tried, *, denied: bool, **beside: Any) -> dict[str, list[str]]:
        question = msgspec.structs.replace(tried.question(), **beside)
        return guessed_with(question, DIGESTS, denied=denied)

    def test_a_device_token_is_a_guess_at_one_device_and_role(self) -> None:
        found = self.guessed(DEVICE_TOKEN_ALONE, denied=True)
        assert found == {DEVICE_TOKEN: [DIGESTS.of("x", "d", "operator")]}
        others = [
            self.guessed(DEVICE_TOKEN_ALONE, denied=True, **beside)
            for beside in ({"device_id": "e"}, {"role": "node"}, {"token_candidate": "y"})
        ]
        assert all(other != found for other in others)

    def test_in_the_token_field_it_is_a_gateway_token_for_every_client(self) -> None:
        found = self.guessed(IN_THE_TOKEN_FIELD, denied=True)
        assert found == {SHARED_SECRET: [DIGESTS.of("x")]}
        assert self.guessed(IN_THE_TOKEN_FIELD, denied=True, device_id="e") == found

    def test_in_both_fields_it_is_a_guess_at_both(self) -> None:
        found = self.guessed(BOTH_FIELDS, denied=True, candidate_offered=True)
        assert found == {
            DEVICE_TOKEN: [DIGESTS.of("x", "d", "operator")],
            SHARED_SECRET: [DIGESTS.of("x")],
        }

    def test_one_that_is_right_is_none(self) -> None:
        assert self.guessed(BOTH_FIELDS, denied=False, candidate_offered=True) == {}
        assert self.guessed(RIGHT_TOKEN, denied=False) == {}

    def test_gateway_tokens_beside_it_count_either_way(self) -> None:
        beside: dict[str, Any] = {"guesses": ["one", "two"], "wrong_gateway_token": True}
        assert self.guessed(BOTH_FIELDS, denied=False, **beside) == {SHARED_SECRET: ["one", "two"]}
        found = self.guessed(BOTH_FIELDS, denied=True, **beside)
        assert found[SHARED_SECRET] == ["one", "two"]

    def test_a_trusted_client_guesses_nothing(self) -> None:
        assert self.guessed(BOTH_FIELDS, denied=True, trusted=True, guesses=["one"]) == {}

    def test_without_digests_each_attempt_is_another_value(self) -> None:
        """As from a gateway of the previous release; a repeated request is still one attempt."""
        found = [
            self.guessed(BOTH_FIELDS, denied=False, wrong_gateway_token=True, call_id=call_id)
            for call_id in ("boot:1", "boot:1#2", "boot:2")
        ]
        assert found[0] == found[1] == {SHARED_SECRET: ["boot:1"]}
        assert found[2] == {SHARED_SECRET: ["boot:2"]}
        report = ReportSecret(
            "boot:3", "203.0.113.7", [SHARED_SECRET, BOOTSTRAP_TOKEN], right=False
        )
        assert guessed_without_device(report) == {
            SHARED_SECRET: ["boot:3"],
            BOOTSTRAP_TOKEN: ["boot:3"],
        }

    def test_right_without_digests_guesses_nothing(self) -> None:
        report = ReportSecret("boot:3", "203.0.113.7", [SHARED_SECRET], right=True)
        assert guessed_without_device(report) == {}


class TestWhatIsStored:
    def test_a_lifted_class_leaves_the_others(self) -> None:
        held = guard(shared_secret=(10, NOW, NOW + LOCK_MS), device_token=(3, NOW, 0))
        left = FailureCounts(held.without(SHARED_SECRET))
        assert left.locked_ms([SHARED_SECRET], NOW) == 0
        assert left.holds([DEVICE_TOKEN])
        assert guard(shared_secret=(10, NOW, NOW + 1)).without(SHARED_SECRET) == b""

    def test_each_change_has_another_version_and_the_same_values(self) -> None:
        first = WrongValues(b"")
        second = WrongValues(first.under_another_version(NOW))
        third = WrongValues(second.under_another_version(NOW))
        assert first.version == ""
        assert first.version < second.version < third.version
        assert second.stored[16:] == third.stored[16:] == msgspec.msgpack.encode({})
