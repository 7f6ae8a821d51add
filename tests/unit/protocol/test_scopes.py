"""Which scope covers which."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.protocol.scopes import covers, covers_all, first_uncovered, normalised, union
from tests.support.wire import VECTORS

OPERATOR_SCOPES = [
    "operator.read",
    "operator.write",
    "operator.admin",
    "operator.approvals",
    "operator.questions",
    "operator.pairing",
    "operator.talk",
    "operator.talk.secrets",
    "operator.sessions.read",
    "operator.sessions.write",
]
BY_WRITE = {"operator.read", "operator.talk", "operator.sessions.read", "operator.sessions.write"}

scopes = st.lists(st.sampled_from([*OPERATOR_SCOPES, "node.run", "other", "operator.", "operator"]))


class TestOperator:
    @pytest.mark.parametrize("requested", OPERATOR_SCOPES)
    @pytest.mark.parametrize("granted", OPERATOR_SCOPES)
    def test_a_scope_is_covered_by_the_scopes_above_it(self, granted: str, requested: str) -> None:
        expected = granted in {requested, "operator.admin"} or (
            granted == "operator.write" and requested in BY_WRITE
        )
        assert covers([granted], requested, "operator") is expected

    @pytest.mark.parametrize(
        "requested", ["node.run", "admin", "", "Operator.read", " operator.read"]
    )
    def test_other_words_are_never_covered(self, requested: str) -> None:
        assert not covers(["operator.admin", requested], requested, "operator")

    def test_admin_covers_operator_scopes_nobody_knows(self) -> None:
        assert covers(["operator.admin"], "operator.new", "operator")

    def test_an_empty_request_is_always_covered(self) -> None:
        assert covers_all([], [], "operator")

    def test_the_first_uncovered_is_named(self) -> None:
        requested = ["operator.read", "operator.admin", "operator.pairing"]
        assert first_uncovered(["operator.write"], requested, "operator") == "operator.admin"

    @given(scopes, scopes)
    def test_more_granted_never_covers_less(self, granted: list[str], more: list[str]) -> None:
        for requested in OPERATOR_SCOPES:
            if covers(granted, requested, "operator"):
                assert covers(granted + more, requested, "operator")

    @given(scopes)
    def test_a_token_covers_what_its_scopes_cover_and_no_more(self, granted: list[str]) -> None:
        for requested in [*OPERATOR_SCOPES, "node.run", "other"]:
            assert covers(normalised(granted), requested, "operator") == covers(
                granted, requested, "operator"
            )


class TestOtherRoles:
    def test_other_roles_have_only_what_is_listed(self) -> None:
        assert covers(["node.run"], "node.run", "node")
        assert not covers(["node.run"], "node.other", "node")

    @pytest.mark.parametrize("requested", ["operator.read", "operator.admin", "read"])
    def test_other_roles_have_only_scopes_of_their_prefix(self, requested: str) -> None:
        assert not covers([requested, "operator.admin", "node.admin"], requested, "node")

    def test_admin_covers_nothing_else(self) -> None:
        assert not covers(["node.admin"], "node.run", "node")


class TestTokenScopes:
    @pytest.mark.parametrize(
        "row", VECTORS["scopeNormalisationForTokens"], ids=lambda r: str(r["input"])
    )
    def test_scopes_are_normalised_as_recorded(self, row: dict[str, Any]) -> None:
        assert normalised(row["input"]) == row["stored"]

    @given(scopes)
    def test_normalising_twice_changes_nothing(self, given_scopes: list[str]) -> None:
        once = normalised(given_scopes)
        assert normalised(once) == once == sorted(set(once))


def test_union_keeps_the_first_seen_order() -> None:
    assert union(["b", "a"], ["a", "c"], ["b"]) == ["b", "a", "c"]
