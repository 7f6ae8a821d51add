"""Operators whom an identity-aware proxy has signed in, by the headers that it sets. Pure.

Only a proxy of TRUSTED_PROXIES is believed, and only users and groups that are mapped to a
permission get in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from services.approval.domain.permissions import Permission

NAME_PREFIX: Final = "sso:"
"""Begins the name of such an operator, so that it cannot be taken for one with a token."""
USER_LIMIT_CHARACTERS: Final = 200
GROUPS_LIMIT: Final = 500
"""Max. groups of one user that are looked at."""
_UNSAFE: Final = frozenset("<>&\"'`,")

Outcome = Literal["accepted", "unmapped", "ambiguous", "invalid"]


@dataclass(frozen=True, slots=True)
class ProxySignIn:
    """The headers of the proxy and what they permit; without a `user_header`, it is off."""

    user_header: str = ""
    groups_header: str = ""
    by_user: Mapping[str, Permission] = field(default_factory=dict)
    by_group: Mapping[str, Permission] = field(default_factory=dict)


class ProxyIdentity(NamedTuple):
    """What the headers say. `permission` is None unless the outcome is `accepted`."""

    outcome: Outcome
    name: str = ""
    permission: Permission | None = None


def identify(sign_in: ProxySignIn, users: Sequence[str], groups: Sequence[str]) -> ProxyIdentity:
    """Return whom a trusted proxy has signed in; `users` and `groups` are the headers' values.

    A header that occurs several times is refused even if its values are equal: one of them may be
    the client's own, which the proxy should have removed.
    """
    if len(users) != 1 or len(groups) > 1:
        return ProxyIdentity("ambiguous")
    user = users[0].strip()
    if "," in user:  # how proxies join repeated headers
        return ProxyIdentity("ambiguous")
    if not _is_name(user):
        return ProxyIdentity("invalid")
    permissions = [sign_in.by_user[user]] if user in sign_in.by_user else []
    if groups:
        for group in groups[0].split(",", GROUPS_LIMIT)[:GROUPS_LIMIT]:
            permission = sign_in.by_group.get(group.strip())
            if permission is not None:
                permissions.append(permission)
    if not permissions:
        return ProxyIdentity("unmapped", NAME_PREFIX + user)
    return ProxyIdentity("accepted", NAME_PREFIX + user, max(permissions))


def _is_name(user: str) -> bool:
    return (
        0 < len(user) <= USER_LIMIT_CHARACTERS
        and user.isprintable()
        and not any(one.isspace() or one in _UNSAFE for one in user)
    )
