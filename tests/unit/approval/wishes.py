"""What devices may ask for in tests of the rules, and what scopes reach, apart from the code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Iterable

ROLES: Final = ("operator", "node")
ALL_OF_OPERATOR: Final = frozenset(
    f"operator.{name}" for name in ("read", "write", "admin", "talk", "pairing", "approvals")
)
SCOPES: Final = (*sorted(ALL_OF_OPERATOR), "node.run", "node.see", "other.scope", " operator.read")
IMPLIED: Final = {
    "operator.admin": ALL_OF_OPERATOR,
    "operator.write": frozenset({"operator.read", "operator.talk"}),
}
"""What a scope covers beside itself, written down apart from the code (contract §9)."""

PLATFORMS: Final = ("linux", "linux", "linux", "Linux ", "linux", "darwin", "")

own_lists: Final = {
    role: st.lists(
        st.sampled_from([scope for scope in SCOPES if scope.startswith(f"{role}.")]), max_size=3
    )
    for role in ROLES
}
any_lists: Final = st.lists(st.sampled_from(SCOPES), max_size=4)
wishes: Final = st.one_of(
    st.tuples(st.just("operator"), own_lists["operator"]),
    st.tuples(st.just("operator"), own_lists["operator"]),
    st.tuples(st.just("node"), own_lists["node"]),
    st.tuples(st.sampled_from(ROLES), any_lists),
)
"""Role and scopes, mostly such as can be approved."""


def reach(scopes: Iterable[str], role: str) -> frozenset[str]:
    """Return all that these scopes allow in a role."""
    own = {scope for scope in scopes if scope.startswith(f"{role}.")}
    if role != "operator":
        return frozenset(own)
    return frozenset(own).union(*(IMPLIED.get(scope, frozenset()) for scope in own))
