from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from services.approval import policy
from services.approval.records import Record
from tests.unit.approval.desk import KEYS, TTL_MS, Desk
from tests.unit.approval.devices import Device

READ, WRITE, ADMIN, PAIRING, TALK = (
    f"operator.{name}" for name in ("read", "write", "admin", "pairing", "talk")
)


@pytest.fixture
def desk() -> Desk:
    return Desk()


class TestContract71WhenPairingIsEvaluated:
    def test_not_paired(self, desk: Desk) -> None:
        assert desk.ask(READ).reason == "not-paired"

    def test_all_is_well(self, desk: Desk) -> None:
        desk.pair(READ)
        admitted = desk.admit(READ)
        assert admitted.changed is None

    @pytest.mark.parametrize(
        "asked", [{"platform": "darwin"}, {"family": "Mac"}, {"platform": ""}, {"family": ""}]
    )
    def test_metadata_upgrade(self, desk: Desk, asked: dict[str, Any]) -> None:
        desk.pair(READ)
        assert desk.ask(READ, **asked).reason == "metadata-upgrade"

    @pytest.mark.parametrize("platform", ["LINUX", " linux ", "Linux\n"])
    def test_metadata_written_otherwise(self, desk: Desk, platform: str) -> None:
        desk.pair(READ)
        desk.admit(READ, platform=platform)
        assert desk.pairing.metadata.platform == "linux"

    def test_metadata_that_was_empty_is_not_compared(self, desk: Desk) -> None:
        desk.pair(READ, family="")
        desk.admit(READ, family="Mac")
        assert desk.pairing.metadata.device_family == ""

    def test_role_upgrade_after_a_revocation(self, desk: Desk) -> None:
        desk.pair(READ)
        desk.revoke()
        assert desk.ask(READ).reason == "role-upgrade"

    def test_role_upgrade(self, desk: Desk) -> None:
        desk.pair(READ)
        assert desk.ask(role="node").reason == "role-upgrade"

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
    def test_scope_upgrade(
        self, desk: Desk, approved: tuple[str, ...], asked: tuple[str, ...], *, is_covered: bool
    ) -> None:
        desk.pair(*approved)
        verdict = desk.judge(*asked)
        assert isinstance(verdict, policy.Admit) == is_covered
        assert is_covered or getattr(verdict, "reason", "") == "scope-upgrade"

    def test_the_order_of_reasons(self, desk: Desk) -> None:
        desk.pair(READ)
        desk.revoke()
        assert desk.ask(ADMIN, platform="mac").reason == "metadata-upgrade"
        assert desk.ask(ADMIN).reason == "role-upgrade"

    @pytest.mark.parametrize("paired", [True, False])
    def test_another_key(self, desk: Desk, *, paired: bool) -> None:
        if paired:
            desk.pair(READ)
        else:
            desk.ask(READ)
        before = desk.record
        assert desk.deny(READ, public_key=Device.new().public_key) == "key-mismatch"
        assert desk.record == before

    def test_a_new_name_is_taken_over(self, desk: Desk) -> None:
        desk.pair(READ, name="old")
        admitted = desk.admit(READ, name="new")
        assert (admitted.kind, desk.pairing.metadata.display_name) == ("name-changed", "new")
        assert desk.admit(READ, name="").changed is None
        assert desk.pairing.metadata.display_name == "new"


class TestContract73OneRequestADevice:
    def test_a_refresh_keeps_id_and_time(self, desk: Desk) -> None:
        first = desk.ask(READ, PAIRING, name="old").pending
        desk.now_ms += policy.REFRESH_LEAST_MS
        for scopes in ((READ, PAIRING), (PAIRING,), ()):
            asked = desk.ask(*scopes, name="new", platform="mac")
            assert (asked.kind, asked.superseded) == ("", "")
            assert asked.pending.metadata.display_name == "new"
            assert asked.pending.refreshed_at_ms == desk.now_ms
            assert (
                asked.pending.request_id,
                asked.pending.scopes,
                asked.pending.created_at_ms,
            ) == (
                first.request_id,
                first.scopes,
                first.created_at_ms,
            )
            desk.now_ms += policy.REFRESH_LEAST_MS

    def test_a_storm_writes_nothing(self, desk: Desk) -> None:
        first = desk.ask(READ)
        for _ in range(policy.REFRESH_LEAST_MS // 100):
            assert desk.ask(READ) == replace_changed(first)
            desk.now_ms += 100
        assert desk.ask(READ).changed is not None

    @pytest.mark.parametrize("scopes", [(READ,), (TALK,), (WRITE, READ)])
    def test_what_is_covered_is_a_refresh(self, desk: Desk, scopes: tuple[str, ...]) -> None:
        first = desk.ask(WRITE)
        assert desk.ask(*scopes).pending.request_id == first.pending.request_id

    def test_recorded_wider_then_another_role(self, desk: Desk) -> None:
        """As recorded: read → +admin → role node."""
        first = desk.ask(READ)
        desk.now_ms += 1
        wider = desk.ask(ADMIN)
        assert wider.pending.scopes == (READ, ADMIN)
        assert (wider.kind, wider.superseded) == ("requested", first.pending.request_id)
        desk.now_ms += 1
        node = desk.ask(role="node")
        assert (node.pending.role, node.pending.roles) == ("node", ("operator", "node"))
        assert node.pending.scopes == (READ, ADMIN)
        assert node.pending.created_at_ms == desk.now_ms
        assert node.superseded == wider.pending.request_id
        ids = {one.pending.request_id for one in (first, wider, node)}
        assert len(ids) == 3

    def test_another_role_with_the_same_scopes_is_another_request(self, desk: Desk) -> None:
        first = desk.ask()
        assert desk.ask(role="node").superseded == first.pending.request_id

    def test_what_has_expired_is_not_added_to(self, desk: Desk) -> None:
        first = desk.ask(ADMIN)
        desk.now_ms += TTL_MS
        again = desk.ask(READ)
        assert (again.superseded, again.kind) == ("", "requested")
        assert again.pending.request_id != first.pending.request_id
        assert again.pending.scopes == (READ,)

    def test_a_moment_before_it_has_not(self, desk: Desk) -> None:
        first = desk.ask(ADMIN)
        desk.now_ms += TTL_MS - 1
        assert desk.ask(READ).pending.request_id == first.pending.request_id


def replace_changed(asked: policy.Ask) -> policy.Ask:
    """Return how the same verdict looks when nothing is to be written."""
    return policy.Ask(asked.reason, asked.pending, asked.pairing, None, "", "")


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
        desk.record = policy.renamed(desk.record, desk.pairing, "Kitchen")
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
        assert policy.scope_outside_roles(desk.ask(*scopes).pending) == outside

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
        assert policy.scopes_to_hold(desk.record, pending) == to_hold

    def test_what_has_to_be_held_for_a_device_that_changed(self, desk: Desk) -> None:
        desk.pair(ADMIN)
        pending = desk.ask(READ, platform="mac").pending
        assert desk.record is not None
        assert policy.scopes_to_hold(desk.record, pending) == [READ, ADMIN]

    def test_nothing_of_a_request_that_is_refused_remains(self, desk: Desk) -> None:
        desk.ask(READ)
        assert desk.record is not None
        assert policy.without_pending(desk.record) is None
        desk.approve()
        before = desk.record
        desk.ask(ADMIN)
        assert policy.without_pending(desk.record) == before


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
