from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from services.approval.domain import policy
from shared.protocol.limits import (
    LIST_LIMIT_ITEMS,
    SCOPES_HELD_LIMIT_ITEMS,
    SCOPES_LIMIT_ITEMS,
)
from tests.support.approval.devices import Device
from tests.unit.approval.domain.policy_case import TTL_MS, PolicyCase

READ, WRITE, ADMIN, PAIRING, TALK = (
    f"operator.{name}" for name in ("read", "write", "admin", "pairing", "talk")
)


class TestWhenPairingIsEvaluated:
    def test_a_new_device_is_not_paired(self, case: PolicyCase) -> None:
        assert case.ask(READ).reason == "not-paired"

    def test_an_approved_device_is_admitted(self, case: PolicyCase) -> None:
        case.pair(READ)
        admitted = case.admit(READ)
        assert admitted.changed is None

    @pytest.mark.parametrize(
        "asked", [{"platform": "darwin"}, {"family": "Mac"}, {"platform": ""}, {"family": ""}]
    )
    def test_changed_metadata_needs_approval(self, case: PolicyCase, asked: dict[str, Any]) -> None:
        case.pair(READ)
        assert case.ask(READ, **asked).reason == "metadata-upgrade"

    @pytest.mark.parametrize("platform", ["LINUX", " linux ", "Linux\n"])
    def test_metadata_spelled_otherwise_is_the_same(self, case: PolicyCase, platform: str) -> None:
        case.pair(READ)
        case.admit(READ, platform=platform)
        assert case.pairing.metadata.platform == "linux"

    def test_metadata_that_was_empty_is_not_compared(self, case: PolicyCase) -> None:
        case.pair(READ, family="")
        case.admit(READ, family="Mac")
        assert case.pairing.metadata.device_family == ""

    def test_a_revoked_role_is_a_role_upgrade(self, case: PolicyCase) -> None:
        case.pair(READ)
        case.revoke()
        assert case.ask(READ).reason == "role-upgrade"

    def test_another_role_needs_approval(self, case: PolicyCase) -> None:
        case.pair(READ)
        assert case.ask(role="node").reason == "role-upgrade"

    @pytest.mark.parametrize(
        ("approved", "asked", "is_covered"),
        [
            ((), (), True),
            ((), (READ,), False),
            ((READ,), (), True),
            ((READ,), (WRITE,), False),
            ((WRITE,), (READ, TALK), True),
            ((WRITE,), (PAIRING,), False),
            ((ADMIN,), (READ, WRITE, PAIRING, "operator.anything"), True),
            ((ADMIN,), ("node.run",), False),
            ((READ, PAIRING), (PAIRING, READ), True),
        ],
    )
    def test_scopes_beyond_those_approved_need_approval(
        self,
        case: PolicyCase,
        approved: tuple[str, ...],
        asked: tuple[str, ...],
        *,
        is_covered: bool,
    ) -> None:
        case.pair(*approved)
        verdict = case.judge(*asked)
        assert isinstance(verdict, policy.Admit) == is_covered
        assert is_covered or getattr(verdict, "reason", "") == "scope-upgrade"

    def test_reasons_for_pairing_have_a_fixed_order(self, case: PolicyCase) -> None:
        case.pair(READ)
        case.revoke()
        assert case.ask(ADMIN, platform="mac").reason == "metadata-upgrade"
        assert case.ask(ADMIN).reason == "role-upgrade"

    @pytest.mark.parametrize("paired", [True, False])
    def test_another_key_is_denied_and_changes_nothing(
        self, case: PolicyCase, *, paired: bool
    ) -> None:
        if paired:
            case.pair(READ)
        else:
            case.ask(READ)
        before = case.record
        assert case.deny(READ, public_key=Device.new().public_key) == "key-mismatch"
        assert case.record == before

    @pytest.mark.parametrize("name", ["new", "", "old"])
    def test_a_changed_name_writes_nothing(self, case: PolicyCase, name: str) -> None:
        case.pair(READ, name="old")
        assert case.admit(READ, name=name).changed is None


class TestOneRequestPerDevice:
    def test_a_refresh_keeps_id_and_time(self, case: PolicyCase) -> None:
        first = case.ask(READ, PAIRING, name="Kitchen", address="203.0.113.9").pending
        for scopes in ((READ, PAIRING), (PAIRING,), ()):
            case.now_ms += policy.REFRESH_MIN_MS
            asked = case.ask(*scopes, name="Kitchen", address="198.51.100.7")
            assert (asked.kind, asked.superseded) == ("", "")
            assert asked.pending == replace(first, refreshed_at_ms=case.now_ms)

    def test_a_storm_writes_nothing(self, case: PolicyCase) -> None:
        first = case.ask(READ)
        for _ in range(policy.REFRESH_MIN_MS // 100):
            assert case.ask(READ) == replace_changed(first)
            case.now_ms += 100
        assert case.ask(READ).changed is not None

    @pytest.mark.parametrize("scopes", [(READ,), (TALK,), (WRITE, READ)])
    def test_what_is_covered_is_a_refresh(self, case: PolicyCase, scopes: tuple[str, ...]) -> None:
        first = case.ask(WRITE)
        assert case.ask(*scopes).pending.request_id == first.pending.request_id

    def test_recorded_wider_requests_are_reproduced(self, case: PolicyCase) -> None:
        """As recorded: read → +admin → role node."""
        first = case.ask(READ)
        case.now_ms += 1
        wider = case.ask(ADMIN)
        assert wider.pending.scopes == (READ, ADMIN)
        assert (wider.kind, wider.superseded) == ("requested", first.pending.request_id)
        case.now_ms += 1
        node = case.ask(role="node")
        assert (node.pending.role, node.pending.roles) == ("node", ("operator", "node"))
        assert node.pending.scopes == (READ, ADMIN)
        assert node.pending.created_at_ms == case.now_ms
        assert node.superseded == wider.pending.request_id
        ids = {item.pending.request_id for item in (first, wider, node)}
        assert len(ids) == 3

    def test_another_role_with_the_same_scopes_is_another_request(self, case: PolicyCase) -> None:
        first = case.ask()
        assert case.ask(role="node").superseded == first.pending.request_id

    def test_a_scope_that_is_listed_beside_one_that_is_covered_adds_nothing(
        self, case: PolicyCase
    ) -> None:
        first = case.ask(ADMIN, "node.run")
        assert case.ask(READ, "node.run").pending == first.pending

    def test_it_is_not_widened_without_end(self, case: PolicyCase) -> None:
        """Beyond the cap it no longer grows, which bounds records and changes."""
        maximum = [f"operator.x{number}" for number in range(SCOPES_LIMIT_ITEMS)]
        first = case.ask(*maximum[:-1])
        wider = case.ask(maximum[-1])
        assert wider.superseded == first.pending.request_id
        beyond = case.ask(READ)
        assert (beyond.pending, beyond.changed) == (wider.pending, None)
        assert (beyond.kind, beyond.superseded) == ("", "")
        case.now_ms += TTL_MS
        assert case.ask(READ).pending.scopes == (READ,)

    def test_what_is_approved_is_not_widened_without_end(self, case: PolicyCase) -> None:
        scopes = [f"operator.x{number}" for number in range(SCOPES_HELD_LIMIT_ITEMS - 1)]
        for at in range(0, len(scopes), SCOPES_LIMIT_ITEMS):
            case.pair(*scopes[at : at + SCOPES_LIMIT_ITEMS])
        assert case.deny(READ, ADMIN) == "scope-mismatch"
        case.ask(ADMIN)
        assert case.deny(READ) == "scope-mismatch", "one more waits to be approved"
        case.approve()
        assert len(case.pairing.scopes) == SCOPES_HELD_LIMIT_ITEMS
        token = case.admit(*scopes[:SCOPES_LIMIT_ITEMS]).token
        assert len(token.scopes) <= LIST_LIMIT_ITEMS

    def test_what_has_expired_is_not_added_to(self, case: PolicyCase) -> None:
        first = case.ask(ADMIN)
        case.now_ms += TTL_MS
        again = case.ask(READ)
        assert (again.superseded, again.kind) == ("", "requested")
        assert again.pending.request_id != first.pending.request_id
        assert again.pending.scopes == (READ,)

    def test_a_moment_before_it_has_not(self, case: PolicyCase) -> None:
        first = case.ask(ADMIN)
        case.now_ms += TTL_MS - 1
        assert case.ask(READ).pending.request_id == first.pending.request_id


def replace_changed(asked: policy.Ask) -> policy.Ask:
    """Return the same decision with nothing to write."""
    return policy.Ask(asked.reason, asked.pending, asked.pairing, None, "", "")
