from __future__ import annotations

import pytest
from msgspec.structs import replace

from services.approval.domain import pairing as grants
from services.approval.domain import policy
from services.approval.domain.records import Record
from tests.unit.approval.policy_case import KEYS, TTL_MS, Desk

READ, WRITE, ADMIN, PAIRING = (f"operator.{name}" for name in ("read", "write", "admin", "pairing"))


@pytest.fixture
def desk() -> Desk:
    return Desk()


class TestContract74Approval:
    def test_recorded_narrowed_token_and_upgrade(self, desk: Desk) -> None:
        """As recorded: approved [read, pairing], token narrowed to [read], upgrade +admin."""
        desk.pair(READ, PAIRING)
        desk.rotate(scopes=[READ])
        desk.ask(ADMIN)
        desk.now_ms += 5
        desk.approve()
        assert desk.pairing.tokens["operator"].scopes == (ADMIN, READ, WRITE)
        assert desk.pairing.scopes == (READ, PAIRING, ADMIN)

    def test_first(self, desk: Desk) -> None:
        desk.ask(WRITE, PAIRING, name="Kitchen", address="203.0.113.9")
        desk.now_ms += 5
        desk.approve()
        pairing = desk.pairing
        assert (pairing.role, pairing.roles) == ("operator", ("operator",))
        assert pairing.scopes == (WRITE, PAIRING)
        assert (pairing.created_at_ms, pairing.approved_at_ms) == (desk.now_ms, desk.now_ms)
        assert pairing.approved_via == "owner"
        assert pairing.metadata.display_name == "Kitchen"
        token = pairing.tokens["operator"]
        assert (token.scopes, token.created_at_ms) == ((PAIRING, READ, WRITE), desk.now_ms)
        assert (token.rotated_at_ms, token.revoked_at_ms) == (0, 0)
        assert desk.pending is None

    def test_again(self, desk: Desk) -> None:
        first = desk.pair(READ)
        assert desk.record is not None
        desk.record = grants.renamed(desk.record, desk.pairing, "Kitchen")
        created = desk.now_ms
        desk.now_ms += 5
        desk.ask(PAIRING, platform="mac")
        desk.approve()
        pairing = desk.pairing
        assert (pairing.created_at_ms, pairing.approved_at_ms) == (created, desk.now_ms)
        assert pairing.operator_label == "Kitchen"
        assert pairing.metadata.platform == "mac"
        token = pairing.tokens["operator"]
        assert (token.created_at_ms, token.rotated_at_ms) == (created, desk.now_ms)
        assert token.token_id != first.token_id
        assert token.scopes == (PAIRING, READ)

    def test_every_requested_role_gets_a_token_of_its_own_scopes(self, desk: Desk) -> None:
        desk.ask(READ)
        desk.ask("node.run", role="node")
        desk.approve()
        scopes = {role: token.scopes for role, token in desk.pairing.tokens.items()}
        assert scopes == {"operator": (READ,), "node": ("node.run",)}
        assert desk.pairing.roles == ("operator", "node")
        assert desk.admit(READ).token.scopes == (READ,)
        assert desk.admit("node.run", role="node").token.scopes == ("node.run",)

    def test_a_role_keeps_its_token_when_another_is_approved(self, desk: Desk) -> None:
        first = desk.pair(READ)
        desk.ask(role="node")
        desk.approve()
        assert desk.pairing.tokens["operator"] == first

    def test_it_undoes_a_revocation(self, desk: Desk) -> None:
        desk.pair(READ)
        old = desk.token()
        desk.revoke()
        desk.ask(READ)
        desk.approve()
        assert desk.pairing.tokens["operator"].active
        desk.admit(READ)
        assert desk.deny(READ, token=old) == "device-token-mismatch"

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
    def test_scopes_of_no_requested_role(
        self, desk: Desk, scopes: tuple[str, ...], outside: str | None
    ) -> None:
        assert grants.scope_outside_roles(desk.ask(*scopes).pending) == outside

    @pytest.mark.parametrize(
        ("approved", "revoked", "asked", "to_hold"),
        [
            ((READ,), False, (PAIRING,), [PAIRING]),
            ((ADMIN,), True, (READ,), [READ, ADMIN]),
            ((READ, PAIRING), True, (), [READ, PAIRING]),
        ],
    )
    def test_what_whoever_approves_has_to_hold(
        self,
        desk: Desk,
        approved: tuple[str, ...],
        asked: tuple[str, ...],
        to_hold: list[str],
        *,
        revoked: bool,
    ) -> None:
        desk.pair(*approved)
        if revoked:
            desk.revoke()
        pending = desk.ask(*asked).pending
        assert desk.record is not None
        assert grants.scopes_to_hold(desk.record, pending) == to_hold

    def test_what_has_to_be_held_for_a_device_that_changed(self, desk: Desk) -> None:
        desk.pair(ADMIN)
        pending = desk.ask(READ, platform="mac").pending
        assert desk.record is not None
        assert grants.scopes_to_hold(desk.record, pending) == [READ, ADMIN]

    def test_nothing_of_a_request_that_is_refused_remains(self, desk: Desk) -> None:
        desk.ask(READ)
        assert desk.record is not None
        assert grants.without_pending(desk.record) is None
        desk.approve()
        before = desk.record
        desk.ask(ADMIN)
        assert grants.without_pending(desk.record) == before


class TestContract8DeviceTokens:
    def test_the_same_on_every_connect(self, desk: Desk) -> None:
        token = desk.pair(READ, PAIRING)
        for scopes in ((READ, PAIRING), (PAIRING,), ()):
            assert desk.admit(*scopes).token == token

    def test_a_narrowed_one_is_replaced_by_just_what_is_asked(self, desk: Desk) -> None:
        desk.pair(READ, PAIRING, WRITE)
        desk.rotate(scopes=[READ])
        narrowed = desk.pairing.tokens["operator"]
        desk.now_ms += 5
        admitted = desk.admit(WRITE)
        assert admitted.kind == "token-issued"
        assert admitted.token.scopes == (READ, WRITE)
        assert admitted.token.rotated_at_ms == desk.now_ms
        assert admitted.token.token_id != narrowed.token_id
        assert desk.pairing.scopes == (READ, PAIRING, WRITE)

    def test_one_opens_what_it_covers(self, desk: Desk) -> None:
        desk.pair(READ, PAIRING)
        desk.rotate(scopes=[READ])
        before = desk.record
        assert desk.admit(READ, token=desk.token()).token == desk.pairing.tokens["operator"]
        assert desk.deny(PAIRING, token=desk.token()) == "scope-mismatch"
        assert desk.deny(ADMIN, token=desk.token()) == "scope-mismatch"
        assert desk.record == before

    @pytest.mark.parametrize("wrong", ["x", "", "t1", "é" * 43, "\x00"])
    def test_a_wrong_one(self, desk: Desk, wrong: str) -> None:
        desk.pair(READ)
        question = replace(desk.device.asks((READ,)), method="device-token", candidate=wrong)
        verdict = policy.judge(
            desk.record,
            question,
            now_ms=desk.now_ms,
            ttl_ms=TTL_MS,
            keys=KEYS,
            draws=desk.draws,
        )
        assert verdict == policy.Deny("device-token-mismatch")

    def test_of_another_device_role_or_time(self, desk: Desk) -> None:
        desk.pair(READ)
        other = Desk()
        other.pair(READ)
        assert desk.deny(READ, token=other.token()) == "device-token-mismatch"
        assert desk.deny(role="node", token=desk.token()) == "device-token-mismatch"
        old = desk.token()
        desk.rotate()
        assert desk.deny(READ, token=old) == "device-token-mismatch"
        old = desk.token()
        desk.revoke()
        assert desk.deny(READ, token=old) == "device-token-mismatch"

    def test_of_who_was_never_paired(self, desk: Desk) -> None:
        assert desk.deny(READ, token="x") == "device-token-mismatch"
        desk.ask(READ)
        assert desk.deny(READ, token="x") == "device-token-mismatch"

    def test_a_good_one_of_a_device_that_changed_has_to_be_approved(self, desk: Desk) -> None:
        desk.pair(READ)
        assert desk.ask(READ, token=desk.token(), platform="mac").reason == "metadata-upgrade"

    def test_one_that_allows_more_than_is_approved_opens_nothing(self, desk: Desk) -> None:
        desk.pair(ADMIN)
        token = desk.token()
        assert desk.record is not None
        desk.record = Record(
            desk.record.device_id, desk.record.public_key, replace(desk.pairing, scopes=(READ,))
        )
        assert desk.deny(READ, token=token) == "device-token-mismatch"

    def test_rotating_keeps_scopes_unless_told(self, desk: Desk) -> None:
        desk.pair(ADMIN)
        desk.rotate(scopes=[WRITE, " "])
        assert desk.pairing.tokens["operator"].scopes == (READ, WRITE)
        desk.now_ms += 5
        desk.rotate()
        token = desk.pairing.tokens["operator"]
        assert (token.scopes, token.rotated_at_ms) == ((READ, WRITE), desk.now_ms)
