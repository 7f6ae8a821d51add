"""Strategies for requests in policy tests, and scope coverage stated independently of the code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

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
"""What a scope covers besides itself, stated independently of the code."""

CLI: Final = ("cli", "cli")
NODE_HOST: Final = ("node-host", "node")
IOS_APP: Final = ("openclaw-ios", "ui")
CLIENTS: Final = (CLI, CLI, CLI, NODE_HOST, IOS_APP)
PLATFORMS: Final = ("linux", "linux", "linux", "Linux ", "darwin", "", "macos", "iOS 26.4", "iOS 9")
NAMES: Final = ("", "", "a", "b", "c", "d", "e", "f")


class Claim(NamedTuple):
    """What a device claims to be, as passed to the policy; all are of one device family."""

    role: str
    client: tuple[str, str]
    platform: str
    name: str

    def shows(self, other: Claim) -> bool:
        """Return whether showing this claim to an operator shows everything in the other."""
        return (
            (self.role, self.client) == (other.role, other.client)
            and other.name in ("", self.name)
            and other.platform in alike(self.platform, self.client, other.client)
        )

    def admits(self, other: Claim) -> bool:
        """Return whether approving this claim covers the other's platform."""
        if not self.platform:
            return True
        return other.platform in alike(self.platform, self.client, other.client)


def alike(platform: str, client: tuple[str, str], claimed_by: tuple[str, str]) -> set[str]:
    """Return the platforms equivalent to this one, stated independently of the code."""
    same = {platform, "linux", "Linux "} if "inux" in platform else {platform}
    if claimed_by == NODE_HOST and platform in ("darwin", "macos"):
        same |= {"darwin", "macos"}
    if claimed_by == client == IOS_APP and platform.startswith("iOS"):
        same |= {"iOS 26.4", "iOS 9"}
    return same


def admitted_by(approved: list[Claim], claim: Claim) -> bool:
    """Return whether an approved claim covers this one."""
    of_role = [item for item in approved if item.role == claim.role] or approved
    of_client = [device for device in of_role if device.client[0] == claim.client[0]] or of_role
    return any(device.admits(claim) for device in of_client)


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
"""Role and scopes, mostly ones that can be approved."""


def reach(scopes: Iterable[str], role: str) -> frozenset[str]:
    """Return everything that these scopes allow in a role."""
    own = {scope for scope in scopes if scope.startswith(f"{role}.")}
    if role != "operator":
        return frozenset(own)
    return frozenset(own).union(*(IMPLIED.get(scope, frozenset()) for scope in own))
