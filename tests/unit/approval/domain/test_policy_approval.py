from __future__ import annotations

import pytest
from msgspec.structs import replace

from services.approval.domain import pairing as grants
from services.approval.domain import policy
from services.approval.domain.records import Record
from tests.unit.approval.domain.policy_case import KEYS, TTL_MS, PolicyCase

READ, WRITE, ADMIN, PAIRING = (f"operator.{name}" for name in ("read", "write", "admin", "pairing"))


class TestApprovalDecisions:
    def test_a_recorded_upgrade_of_a_narrowed_token_is_reproduced(self, case: PolicyCase) -> None:
        """As recorded: approved [read, pairing], token narrowed to [read], upgrade +admin."""
        case.pair(READ, PAIRING)
        case.rotate(scopes=[READ])
        case.ask(ADMIN)
        case.now_ms += 5
        case.approve()
        assert case.pairing.tokens["operator"].scopes == (ADMIN, READ, WRITE)
        assert case.pairing.scopes == (READ, PAIRING, ADMIN)

    def test_a_first_approval_creates_the_pairing(self, case: PolicyCase) -> None:
        case.ask(WRITE, PAIRING, name="Kitchen", address="203.0.113.9")
        case.now_ms += 5
        case.approve()
        pairing = case.pairing
        assert (pairing.role, pairing.roles) == ("operator", ("operator",))
        assert pairing.scopes == (WRITE, PAIRING)
        assert (pairing.created_at_ms, pairing.approved_at_ms) == (case.now_ms, case.now_ms)
        assert pairing.approved_via == "owner"
        assert pairing.metadata.display_name == "Kitchen"
        token = pairing.tokens["operator"]
        assert (token.scopes, token.created_at_ms) == ((PAIRING, READ, WRITE), case.now_ms)
        assert (token.rotated_at_ms, token.revoked_at_ms) == (0, 0)
        assert case.pending is None

    def test_another_approval_keeps_what_operators_set(self, case: PolicyCase) -> None:
        first = case.pair(READ)
        assert case.record is not None
        labelled = replace(case.pairing, operator_label="Kitchen")
        case.record = replace(case.record, pairing=labelled)
        created = case.now_ms
        case.now_ms += 5
        case.ask(PAIRING, platform="mac")
        case.approve()
        pairing = case.pairing
        assert (pairing.created_at_ms, pairing.approved_at_ms) == (created, case.now_ms)
        assert pairing.operator_label == "Kitchen"
        assert pairing.metadata.platform == "mac"
        token = pairing.tokens["operator"]
        assert (token.created_at_ms, token.rotated_at_ms) == (created, case.now_ms)
        assert token.token_id != first.token_id
        assert token.scopes == (PAIRING, READ)

    def test_every_requested_role_gets_a_token_of_its_own_scopes(self, case: PolicyCase) -> None:
        case.ask(READ)
        case.ask("node.run", role="node")
        case.approve()
        scopes = {role: token.scopes for role, token in case.pairing.tokens.items()}
        assert scopes == {"operator": (READ,), "node": ("node.run",)}
        assert case.pairing.roles == ("operator", "node")
        assert case.admit(READ).token.scopes == (READ,)
        assert case.admit("node.run", role="node").token.scopes == ("node.run",)

    def test_a_role_keeps_its_token_when_another_is_approved(self, case: PolicyCase) -> None:
        first = case.pair(READ)
        case.ask(role="node")
        case.approve()
        assert case.pairing.tokens["operator"] == first

    def test_an_approval_undoes_a_revocation(self, case: PolicyCase) -> None:
        case.pair(READ)
        old = case.token()
        case.revoke()
        case.ask(READ)
        case.approve()
        assert case.pairing.tokens["operator"].active
        case.admit(READ)
        assert case.deny(READ, token=old) == "device-token-mismatch"

    @pytest.mark.parametrize(
        ("scopes", "outside"),
        [
            ((READ,), None),
            ((), None),
            ((READ, "node.run"), "node.run"),
            ((READ, "*"), "*"),
            (("operator",), "operator"),
            (("",), ""),
            ((f" {READ}",), f" {READ}"),
            ((f"{READ}\n",), f"{READ}\n"),
        ],
    )
    def test_scopes_of_no_requested_role_are_found(
        self, case: PolicyCase, scopes: tuple[str, ...], outside: str | None
    ) -> None:
        assert grants.scope_outside_roles(case.ask(*scopes).pending) == outside

    @pytest.mark.parametrize(
        ("approved", "revoked", "asked", "to_hold"),
        [
            ((READ,), False, (PAIRING,), [PAIRING]),
            ((ADMIN,), True, (READ,), [READ, ADMIN]),
            ((READ, PAIRING), True, (), [READ, PAIRING]),
        ],
    )
    def test_what_an_approver_must_hold(
        self,
        case: PolicyCase,
        approved: tuple[str, ...],
        asked: tuple[str, ...],
        to_hold: list[str],
        *,
        revoked: bool,
    ) -> None:
        case.pair(*approved)
        if revoked:
            case.revoke()
        pending = case.ask(*asked).pending
        assert case.record is not None
        assert grants.scopes_to_hold(case.record, pending) == to_hold

    def test_what_has_to_be_held_for_a_device_that_changed(self, case: PolicyCase) -> None:
        case.pair(ADMIN)
        pending = case.ask(READ, platform="mac").pending
        assert case.record is not None
        assert grants.scopes_to_hold(case.record, pending) == [READ, ADMIN]

    def test_nothing_of_a_request_that_is_refused_remains(self, case: PolicyCase) -> None:
        case.ask(READ)
        assert case.record is not None
        assert grants.without_pending(case.record) is None
        case.approve()
        before = case.record
        case.ask(ADMIN)
        assert grants.without_pending(case.record) == before


class TestDeviceTokens:
    def test_the_same_on_every_connect(self, case: PolicyCase) -> None:
        token = case.pair(READ, PAIRING)
        for scopes in ((READ, PAIRING), (PAIRING,), ()):
            assert case.admit(*scopes).token == token

    def test_a_narrowed_one_is_replaced_by_just_what_is_asked(self, case: PolicyCase) -> None:
        case.pair(READ, PAIRING, WRITE)
        case.rotate(scopes=[READ])
        narrowed = case.pairing.tokens["operator"]
        case.now_ms += 5
        admitted = case.admit(WRITE)
        assert admitted.kind == "token-issued"
        assert admitted.token.scopes == (READ, WRITE)
        assert admitted.token.rotated_at_ms == case.now_ms
        assert admitted.token.token_id != narrowed.token_id
        assert case.pairing.scopes == (READ, PAIRING, WRITE)

    def test_a_token_admits_what_it_covers(self, case: PolicyCase) -> None:
        case.pair(READ, PAIRING)
        case.rotate(scopes=[READ])
        before = case.record
        assert case.admit(READ, token=case.token()).token == case.pairing.tokens["operator"]
        assert case.deny(PAIRING, token=case.token()) == "scope-mismatch"
        assert case.deny(ADMIN, token=case.token()) == "scope-mismatch"
        assert case.record == before

    @pytest.mark.parametrize("wrong", ["x", "", "t1", "é" * 43, "\x00"])
    def test_a_wrong_device_token_is_denied(self, case: PolicyCase, wrong: str) -> None:
        case.pair(READ)
        question = replace(case.device.asks((READ,)), method="device-token", token_candidate=wrong)
        verdict = policy.authorize(
            case.record,
            question,
            now_ms=case.now_ms,
            ttl_ms=TTL_MS,
            keys=KEYS,
            draws=case.draws,
        )
        assert verdict == policy.Deny("device-token-mismatch")

    def test_a_token_of_another_device_role_or_time_is_denied(self, case: PolicyCase) -> None:
        case.pair(READ)
        other = PolicyCase()
        other.pair(READ)
        assert case.deny(READ, token=other.token()) == "device-token-mismatch"
        assert case.deny(role="node", token=case.token()) == "device-token-mismatch"
        old = case.token()
        case.rotate()
        assert case.deny(READ, token=old) == "device-token-mismatch"
        old = case.token()
        case.revoke()
        assert case.deny(READ, token=old) == "device-token-mismatch"

    def test_a_token_of_a_device_that_was_never_paired_is_denied(self, case: PolicyCase) -> None:
        assert case.deny(READ, token="x") == "device-token-mismatch"
        case.ask(READ)
        assert case.deny(READ, token="x") == "device-token-mismatch"

    def test_a_good_one_of_a_device_that_changed_has_to_be_approved(self, case: PolicyCase) -> None:
        case.pair(READ)
        assert case.ask(READ, token=case.token(), platform="mac").reason == "metadata-upgrade"

    def test_one_that_allows_more_than_is_approved_opens_nothing(self, case: PolicyCase) -> None:
        case.pair(ADMIN)
        token = case.token()
        assert case.record is not None
        case.record = Record(
            case.record.device_id, case.record.public_key, replace(case.pairing, scopes=(READ,))
        )
        assert case.deny(READ, token=token) == "device-token-mismatch"

    def test_rotating_keeps_scopes_by_default(self, case: PolicyCase) -> None:
        case.pair(ADMIN)
        case.rotate(scopes=[WRITE, " "])
        assert case.pairing.tokens["operator"].scopes == (READ, WRITE)
        case.now_ms += 5
        case.rotate()
        token = case.pairing.tokens["operator"]
        assert (token.scopes, token.rotated_at_ms) == ((READ, WRITE), case.now_ms)
