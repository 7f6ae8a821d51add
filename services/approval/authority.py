"""Who may do what to whom (contract §10). Pure: each function returns, or raises NotAllowed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from services.approval.errors import MissingScope, NotAllowed
from shared.protocol.scopes import ADMIN, PAIRING, covers, first_uncovered

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from services.approval.records import Pairing, Pending

Kind = Literal["operator", "shared-secret", "device-token"]


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever calls the registry.

    `operator`: holds the admin token. `shared-secret`, `device-token`: a socket, by how it was
    authenticated; `device_id` is the caller's own, `scopes` its live ones. `name` is for the audit.
    """

    kind: Kind
    name: str
    scopes: tuple[str, ...]
    device_id: str = ""

    @property
    def is_admin(self) -> bool:
        """Whether every operator's right is held."""
        return ADMIN in self.scopes

    @property
    def confined(self) -> bool:
        """Whether the caller may only touch the device it is."""
        return self.kind == "device-token" and not self.is_admin


OPERATOR: Final = Caller("operator", "operator", (ADMIN,))
"""Whoever holds APPROVAL_ADMIN_TOKEN."""


def require_pairing(caller: Caller) -> None:
    """Let pass who may use the device methods at all."""
    if not covers(caller.scopes, PAIRING, "operator"):
        raise MissingScope(PAIRING)


def sees(caller: Caller, device_id: str) -> bool:
    """Say whether a device is in this caller's lists."""
    return not caller.confined or caller.device_id == device_id


def require_approve(
    caller: Caller, device_id: str, pending: Pending, to_hold: Iterable[str]
) -> None:
    """Let pass who may approve this request; `to_hold` are the scopes it would grant."""
    if caller.is_admin:
        return
    if caller.confined and device_id != caller.device_id:
        raise NotAllowed
    if any(role != "operator" for role in pending.roles):
        raise NotAllowed
    missing = first_uncovered(caller.scopes, to_hold, "operator")
    if missing is not None:
        raise MissingScope(missing)


def require_reject(caller: Caller, device_id: str) -> None:
    """Let pass who may reject a request of this device."""
    if not sees(caller, device_id):
        raise NotAllowed


def require_manage(caller: Caller, device_id: str, pairing: Pairing | None) -> None:
    """Let pass who may remove or rename this device; without a pairing only the id is judged."""
    if not caller.confined:
        return
    if device_id != caller.device_id:
        raise NotAllowed
    if pairing is not None and any(role != "operator" for role in pairing.roles):
        raise NotAllowed


def require_token(
    caller: Caller, device_id: str, role: str, held: Sequence[str], wanted: Iterable[str]
) -> None:
    """Let pass who may rotate or revoke a token of these scopes, into the wanted ones."""
    if caller.is_admin:
        return
    if role != "operator" or not sees(caller, device_id):
        raise NotAllowed
    missing = first_uncovered(caller.scopes, (*held, *wanted), "operator")
    if missing is not None:
        raise MissingScope(missing)
