"""What an operator may do over the HTTP API: view < decide < manage. Pure."""

from __future__ import annotations

from enum import IntEnum
from typing import Final, Literal

PermissionName = Literal["view", "decide", "manage"]
"""A permission as the API and the settings write it."""


class Permission(IntEnum):
    """A permission of an operator; each includes those before it."""

    VIEW = 1
    """Read every list and the audit log."""
    DECIDE = 2
    """Approve, reject, label, remove, rotate, revoke, lift lock-outs, and use setup codes."""
    MANAGE = 3
    """Change operators, rules and webhooks; back up, restore and import."""

    @property
    def label(self) -> PermissionName:
        """The permission's name."""
        return _LABELS[self]


_LABELS: Final[dict[Permission, PermissionName]] = {
    Permission.VIEW: "view",
    Permission.DECIDE: "decide",
    Permission.MANAGE: "manage",
}


def permission_of(name: str) -> Permission | None:
    """Return the permission with this name; None if there is none."""
    return next((one for one, label in _LABELS.items() if label == name), None)
