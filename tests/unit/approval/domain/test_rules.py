"""What an approval rule covers: the pure rules, each part of a rule, and what is never covered."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.approval.domain.pairing import (
    IdFactory,
    approved,
    claim_of,
    revoked,
    rotated,
)
from services.approval.domain.records import Metadata, Pending
from services.approval.domain.rules import (
    COUNT_LIMIT,
    LIFE_LIMIT_MS,
    Claim,
    Rule,
    Rules,
    compiled,
    problems_of,
    read_rules,
    sensitive_scope,
    uncovered,
)
from shared.protocol.scopes import covers, covers_all

if TYPE_CHECKING:
    from services.approval.domain.records import Pairing
    from services.approval.domain.rules import Uncovered

NOW_MS = 1_700_000_000_000
DRAWS = IdFactory(request_id=lambda: "r", token_id=lambda: "t", token_generation=lambda: "g")
DEVICE, OTHER = "a" * 64, "b" * 64
READ, WRITE, ADMIN, PAIRING = (f"operator.{name}" for name in ("read", "write", "admin", "pairing"))
NODE_RULE = Rule("1", "node", ("node.run",), NOW_MS + 1, 5, 0, "x", networks=("192.0.2.0/24",))
OPERATOR_RULE = Rule("2", "operator", (WRITE,), NOW_MS + 1, 5, 0, "x", device_ids=(DEVICE,))
SCOPES = st.sampled_from([READ, WRITE, ADMIN, PAIRING, "operator.x", "node.run", " operator.read"])


def node(address: str = "192.0.2.7", **other: object) -> Claim:
    claim = Claim("not-paired", DEVICE, address, ("node",), ("node.run",))
    return claim._replace(**other)  # type: ignore[arg-type]


def operator(*enables: str, **other: object) -> Claim:
    claim = Claim("not-paired", DEVICE, "203.0.113.9", ("operator",), enables)
    return claim._replace(**other)  # type: ignore[arg-type]


def why(rule: Rule, claim: Claim, now_ms: int = NOW_MS) -> Uncovered | None:
    return uncovered(compiled("x", rule), claim, now_ms)


class TestCovering:
    @pytest.mark.parametrize(
        ("rule", "claim", "expected"),
        [
            (NODE_RULE, node(), None),
            (NODE_RULE, node(enables=()), None),
            (NODE_RULE, node("::ffff:192.0.2.7"), None),
            (NODE_RULE, node("192.0.3.1"), "network"),
            (NODE_RULE, node("2001:db8::1"), "network"),
            (NODE_RULE, node("unknown"), "network"),
            (NODE_RULE, node(""), "network"),
            (NODE_RULE, node(enables=("node.run", "node.see")), "scopes"),
            (NODE_RULE, node(enables=("operator.read",)), "scopes"),
            (NODE_RULE, node(roles=("operator",)), "role"),
            (NODE_RULE, node(roles=("node", "operator")), "role"),
            (NODE_RULE, node(roles=()), "role"),
            (NODE_RULE, node(reason="metadata-upgrade"), "changed-device"),
            (NODE_RULE, node(reason="something new"), "changed-device"),
            (NODE_RULE, node(revoked=True), "revoked"),
            (OPERATOR_RULE, operator(READ), None),
            (OPERATOR_RULE, operator(WRITE, READ), None),
            (OPERATOR_RULE, operator(READ, device_id=OTHER), "device"),
            (OPERATOR_RULE, operator("operator.approvals"), "scopes"),
            (OPERATOR_RULE, operator(ADMIN), "admin"),
            (OPERATOR_RULE, operator(PAIRING), "admin"),
            (OPERATOR_RULE, operator(f" {ADMIN} "), "admin"),
            (OPERATOR_RULE, operator(" operator.read"), "scopes"),
            (replace(OPERATOR_RULE, networks=("192.0.2.0/24",)), operator(READ), "network"),
        ],
    )
    def test_each_part_has_to_match(
        self, rule: Rule, claim: Claim, expected: Uncovered | None
    ) -> None:
        assert why(rule, claim) == expected

    def test_a_rule_expires_to_the_millisecond(self) -> None:
        assert why(NODE_RULE, node(), NOW_MS) is None
        assert why(NODE_RULE, node(), NOW_MS + 1) == "expired"

    @pytest.mark.parametrize("scopes", [(ADMIN,), (PAIRING,)])
    def test_scopes_that_approve_others_need_the_rules_consent(
        self, scopes: tuple[str, ...]
    ) -> None:
        rule = replace(OPERATOR_RULE, scopes=scopes)
        assert why(rule, operator(*scopes)) == "admin"
        assert why(replace(rule, allow_admin=True), operator(*scopes)) is None

    def test_the_first_by_name_approves(self) -> None:
        rules = Rules("v", {"b": NODE_RULE, "a": replace(NODE_RULE, id="0"), "c": OPERATOR_RULE})
        found = rules.covering(node(), NOW_MS)
        assert found is not None
        assert found[0] == "a"
        assert rules.covering(node(), NOW_MS, without={"0"}) == ("b", NODE_RULE)
        assert rules.covering(node(), NOW_MS, without={"0", "1"}) is None
        assert not Rules()

    @given(
        granted=st.lists(SCOPES, max_size=3, unique=True),
        asked=st.lists(SCOPES, max_size=3, unique=True),
        role=st.sampled_from(["node", "operator"]),
        allow=st.booleans(),
    )
    def test_nothing_beyond_the_rule_is_ever_covered(
        self, granted: list[str], asked: list[str], role: str, *, allow: bool
    ) -> None:
        rule = Rule(
            "1",
            role,  # type: ignore[arg-type]
            tuple(granted),
            NOW_MS + 1,
            1,
            0,
            "x",
            device_ids=(DEVICE,),
            allow_admin=allow,
        )
        if why(rule, operator(*asked, roles=(role,))) is None:
            assert covers_all(granted, asked, role)
            assert allow or not any(covers((one,), PAIRING, "operator") for one in asked)

    @given(st.ip_addresses(), st.lists(st.ip_addresses(v=4), max_size=3), st.integers(0, 32))
    def test_networks_are_compared_as_networks(
        self,
        client: ipaddress.IPv4Address | ipaddress.IPv6Address,
        bases: list[ipaddress.IPv4Address],
        bits: int,
    ) -> None:
        networks = [ipaddress.ip_network((base, bits), strict=False) for base in bases]
        rule = replace(NODE_RULE, networks=tuple(map(str, networks)), device_ids=(DEVICE,))
        mapped = client.ipv4_mapped if isinstance(client, ipaddress.IPv6Address) else None
        inside = any((mapped or client) in network for network in networks)
        assert (why(rule, node(str(client))) is None) == (inside or not networks)


METADATA = Metadata("cli", "cli", "linux")


def pending(*scopes: str, role: str = "operator", roles: tuple[str, ...] = ()) -> Pending:
    return Pending("r", "not-paired", role, roles or (role,), scopes, METADATA, "x", 0, 0)


def paired(*scopes: str, role: str = "operator") -> Pairing:
    return approved(None, pending(*scopes, role=role), now_ms=1, draws=DRAWS)


def claim(before: Pairing | None, asked: Pending) -> Claim:
    return claim_of(before, asked, DEVICE, reason="scope-upgrade", address="203.0.113.9")


class TestClaims:
    def test_a_new_device_is_judged_by_what_it_asks_for(self) -> None:
        assert set(claim(None, pending(WRITE)).enables) == {READ, WRITE}
        assert claim(None, pending()).enables == ()

    def test_a_paired_device_is_judged_by_what_it_would_gain(self) -> None:
        assert claim(paired(READ), pending(READ, "operator.x")).enables == ("operator.x",)

    def test_a_revoked_role_is_for_a_person_to_give_back(self) -> None:
        """Approving it would restore all that the device held, operator.admin for instance."""
        before = revoked(paired(ADMIN), "operator", now_ms=2)
        found = claim(before, pending(READ))
        assert found.revoked
        assert ADMIN in found.enables
        assert why(OPERATOR_RULE, found) == "revoked"

    def test_scopes_left_from_before_count(self) -> None:
        """The token of a new role would inherit scopes that were once approved for that role."""
        before = replace(paired(role="node"), scopes=(ADMIN,))
        assert ADMIN in claim(before, pending()).enables

    def test_a_narrowed_token_is_not_widened_by_a_rule(self) -> None:
        before = rotated(paired(WRITE, "operator.x"), "operator", [READ], now_ms=2, draws=DRAWS)
        assert "operator.x" in claim(before, pending("operator.x", "operator.y")).enables

    @given(
        st.none() | st.lists(SCOPES, max_size=3, unique=True).map(lambda held: paired(*held)),
        st.lists(SCOPES, max_size=3, unique=True),
        st.lists(SCOPES, max_size=3, unique=True),
    )
    def test_an_approval_by_a_rule_gives_no_more_than_the_rule_and_what_was_held(
        self, before: Pairing | None, asked: list[str], granted: list[str]
    ) -> None:
        rule = replace(OPERATOR_RULE, scopes=tuple(granted), allow_admin=True)
        if why(rule, claim(before, pending(*asked))) is not None:
            return
        after = approved(before, pending(*asked), now_ms=2, draws=DRAWS).tokens["operator"]
        held = before.tokens["operator"].scopes if before else ()
        for scope in set(after.scopes) - set(held):
            assert covers(granted, scope, "operator")


class TestProblems:
    def test_sound_rules_have_none(self) -> None:
        for rule in (
            NODE_RULE,
            OPERATOR_RULE,
            replace(OPERATOR_RULE, scopes=(ADMIN,), allow_admin=True),
            replace(NODE_RULE, networks=("192.0.2.7", "2001:db8::/32", "2001:db8::1/128")),
            replace(NODE_RULE, networks=(), device_ids=(DEVICE,), scopes=()),
            replace(NODE_RULE, count=COUNT_LIMIT, expires_at_ms=NOW_MS + LIFE_LIMIT_MS),
        ):
            assert problems_of("kiosks-2", rule, NOW_MS) == [], rule

    @pytest.mark.parametrize(
        ("change", "problem"),
        [
            ({"networks": ()}, "give networks (for nodes) or device ids"),
            ({"role": "operator", "scopes": ()}, "networks: only for the role node"),
            ({"networks": ("192.0.2.7/24",)}, "must be written '192.0.2.0/24'"),
            ({"networks": ("192.0.2.0/33",)}, "is not an address or CIDR range"),
            ({"networks": ("<b>",)}, "is not an address or CIDR range"),
            ({"networks": ("::ffff:192.0.2.0/120",)}, "as IPv4"),
            ({"networks": ("2001:DB8::/32",)}, "must be written '2001:db8::/32'"),
            ({"device_ids": ("A" * 64,)}, "deviceIds: each is 64 hexadecimal digits"),
            ({"device_ids": ("a" * 64 + "\n",)}, "deviceIds: each is 64 hexadecimal digits"),
            ({"scopes": ("operator.read",)}, "does not belong to the role node"),
            ({"scopes": ("node.",)}, "does not belong to the role node"),
            ({"scopes": (" node.run",)}, "does not belong to the role node"),
            ({"allow_admin": True}, "allowAdmin: no scope of the rule needs it"),
            ({"expires_at_ms": NOW_MS}, "expiresAtMs: must be in the future"),
            ({"expires_at_ms": NOW_MS + LIFE_LIMIT_MS + 1}, "expiresAtMs: must be in the future"),
            ({"count": 0}, "count: from 1 to"),
            ({"count": COUNT_LIMIT + 1}, "count: from 1 to"),
        ],
    )
    def test_each_is_named(self, change: dict[str, object], problem: str) -> None:
        (found,) = problems_of("x", replace(NODE_RULE, **change), NOW_MS)
        assert problem in found

    @pytest.mark.parametrize("scope", [ADMIN, PAIRING])
    def test_scopes_that_approve_others_have_to_be_allowed(self, scope: str) -> None:
        (found,) = problems_of("x", replace(OPERATOR_RULE, scopes=(scope,)), NOW_MS)
        assert "allowAdmin" in found

    @pytest.mark.parametrize("name", ["", "<b>x</b>", "A", "a b", "1", "a" * 33, "a\n", "ä"])
    def test_names_have_a_small_alphabet(self, name: str) -> None:
        (found,) = problems_of(name, NODE_RULE, NOW_MS)
        assert found.startswith("name:")

    def test_all_are_reported_at_once(self) -> None:
        wrong = Rule("1", "operator", (ADMIN,), 0, 0, 0, "x", networks=("nowhere",))
        assert len(problems_of("<b>", wrong, NOW_MS)) == 6


def test_sensitive_scopes() -> None:
    assert sensitive_scope([READ, PAIRING]) == PAIRING
    assert sensitive_scope([READ, WRITE, "operator.approvals", "node.admin"]) is None


def test_the_stored_value_is_read_back() -> None:
    rules = Rules(b"0123456789abcdef", {"a": NODE_RULE, "b": OPERATOR_RULE})
    found = read_rules(b"0123456789abcdef" + rules.encoded())
    assert (found.version, found.by_name) == (rules.version, rules.by_name)
    assert not read_rules(None)
