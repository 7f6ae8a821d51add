"""Settings of the sign-in by an identity-aware proxy. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from services.approval.access.proxy_identity import ProxySignIn
from services.approval.domain.permissions import Permission, permission_of
from shared.settings.declarations import Setting
from shared.settings.environment import shown

if TYPE_CHECKING:
    from shared.settings.environment import CommonSettings, SettingsReader

OPERATOR_PROXY_USER_HEADER: Final = Setting(
    "OPERATOR_PROXY_USER_HEADER",
    "Header in which an identity-aware proxy of `TRUSTED_PROXIES` names the operator it has signed"
    " in, such as `X-Forwarded-Email`. Set it only if that proxy removes the header from what"
    " clients send, and every way to this service through `TRUSTED_PROXIES` leads through it.",
)
OPERATOR_PROXY_GROUPS_HEADER: Final = Setting(
    "OPERATOR_PROXY_GROUPS_HEADER",
    "Header in which that proxy lists the operator's groups, separated by commas.",
)
OPERATOR_PROXY_PERMISSIONS: Final = Setting(
    "OPERATOR_PROXY_PERMISSIONS",
    "What such operators may do, as a comma list of `group:NAME=PERMISSION` and"
    " `user:NAME=PERMISSION` with `view`, `decide` or `manage`; of several that apply, the highest."
    " Anybody else is refused.",
)
PROXY_SETTINGS: Final = (
    OPERATOR_PROXY_USER_HEADER,
    OPERATOR_PROXY_GROUPS_HEADER,
    OPERATOR_PROXY_PERMISSIONS,
)


_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9-]{1,100}", re.ASCII)
_OTHER_HEADERS: Final = frozenset(
    {
        "authorization",
        "cookie",
        "host",
        "origin",
        "content-type",
        "content-length",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-real-ip",
        "x-latchkey-page",
    }
)
"""Headers with another meaning here: they do not name an operator."""


def read_proxy_sign_in(reader: SettingsReader, common: CommonSettings) -> ProxySignIn:
    """Read how operators are signed in by a proxy; collect problems."""
    user, groups = map(reader.text, (OPERATOR_PROXY_USER_HEADER, OPERATOR_PROXY_GROUPS_HEADER))
    for setting, value in (
        (OPERATOR_PROXY_USER_HEADER, user),
        (OPERATOR_PROXY_GROUPS_HEADER, groups),
    ):
        if value and (not _HEADER_NAME.fullmatch(value) or value.lower() in _OTHER_HEADERS):
            reader.problems.append(
                f"{setting.name}={shown(value)}: must be the name of a header of its own"
            )
    by_user, by_group = _read_permissions(reader)
    if not user:
        reader.problems.extend(
            f"{setting.name} needs {OPERATOR_PROXY_USER_HEADER.name}"
            for setting, value in (
                (OPERATOR_PROXY_GROUPS_HEADER, groups),
                (OPERATOR_PROXY_PERMISSIONS, by_user or by_group),
            )
            if value
        )
        return ProxySignIn()
    name = OPERATOR_PROXY_PERMISSIONS.name
    if not common.trusted_proxies:
        reader.problems.append(
            f"{OPERATOR_PROXY_USER_HEADER.name} needs TRUSTED_PROXIES: nobody else is believed"
        )
    if not by_user and not by_group:
        reader.problems.append(
            f"{OPERATOR_PROXY_USER_HEADER.name} needs {name}: without it, nobody gets in"
        )
    if by_group and not groups:
        reader.problems.append(
            f"{name} names groups, so it needs {OPERATOR_PROXY_GROUPS_HEADER.name}"
        )
    if groups and groups.lower() == user.lower():
        reader.problems.append(
            f"{OPERATOR_PROXY_GROUPS_HEADER.name} must not be {OPERATOR_PROXY_USER_HEADER.name}"
        )
    return ProxySignIn(user, groups, by_user, by_group)


def _read_permissions(
    reader: SettingsReader,
) -> tuple[dict[str, Permission], dict[str, Permission]]:
    """Read the permissions of users and of groups; collect problems."""
    by_user: dict[str, Permission] = {}
    by_group: dict[str, Permission] = {}
    kinds = {"user": by_user, "group": by_group}
    name = OPERATOR_PROXY_PERMISSIONS.name
    for part in filter(None, map(str.strip, reader.text(OPERATOR_PROXY_PERMISSIONS).split(","))):
        who, _, word = part.rpartition("=")
        kind, _, subject = who.partition(":")
        permission = permission_of(word.strip())
        if kind not in kinds or not subject.strip() or permission is None:
            reader.problems.append(
                f"{name}: {shown(part)} must be group:NAME=PERMISSION or user:NAME=PERMISSION, "
                "with view, decide or manage"
            )
        elif kinds[kind].setdefault(subject.strip(), permission) is not permission:
            reader.problems.append(f"{name}: {shown(who)} has two permissions")
    return by_user, by_group
