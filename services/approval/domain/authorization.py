"""Authorization rules. Pure: each `require_` function returns or raises NotAllowed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal

from services.approval.domain.errors import MissingScope, NotAllowed
from services.approval.domain.pairing import scopes_to_hold
from services.approval.domain.permissions import Permission
from shared.protocol.scopes import ADMIN, PAIRING, READ, covers, first_uncovered

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from services.approval.domain.records import Pairing, Pending, Record

Kind = Literal["operator", "gateway", "shared-secret", "device-token"]


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller of a registry method.

    `kind` is `operator` (a caller of the HTTP API), `gateway` (a gateway on its own behalf), or
    how a socket authenticated: `shared-secret` or `device-token`. `device_id` and `scopes` are the
    socket's own, `name` appears in the audit log. A call from a socket has a `call_id` and expires
    at `not_after_ms` (store's clock). `permission` is an operator's; it means nothing for others.
    """

    kind: Kind
    name: str
    scopes: tuple[str, ...]
    device_id: str = ""
    token_generation: str = ""
    call_id: str = ""
    not_after_ms: int = 0
    version: str = ""
    """Version of the caller's own record that `scopes` was checked against."""
    permission: Permission = Permission.VIEW
    has_record: bool = field(init=False)
    """Whether the caller's rights depend on a device record of its own."""
    is_admin: bool = field(init=False)
    """Whether the caller holds operator.admin."""
    confined: bool = field(init=False)
    """Whether the caller may only access its own device."""

    def __post_init__(self) -> None:
        of_device = self.kind == "device-token"
        own = of_device or (self.kind == "shared-secret" and self.device_id != "")
        object.__setattr__(self, "has_record", own)
        object.__setattr__(self, "is_admin", ADMIN in self.scopes)
        object.__setattr__(self, "confined", of_device and not self.is_admin)


ADMIN_OPERATOR: Final = "admin"
"""Name of the operator whose token is APPROVAL_ADMIN_TOKEN."""


def operator_caller(name: str, permission: Permission) -> Caller:
    """Return the caller for an operator of the HTTP API; the audit log says `operator:<name>`."""
    return Caller("operator", f"operator:{name}", (ADMIN,), permission=permission)


OPERATOR: Final = operator_caller(ADMIN_OPERATOR, Permission.MANAGE)
"""A holder of APPROVAL_ADMIN_TOKEN."""


def restrict(caller: Caller, version: str, record: Record | None) -> Caller:
    """Return the caller with only the scopes that its own record grants (R12).

    The gateway's view of the caller may be stale. A socket whose token generation is over holds
    no scopes.
    """
    pairing = record.pairing if record else None
    token = pairing.tokens.get("operator") if pairing else None
    scopes: tuple[str, ...] = ()
    if pairing and token and token.active and token.token_generation == caller.token_generation:
        scopes = tuple(one for one in caller.scopes if covers(pairing.scopes, one, "operator"))
    return replace(caller, scopes=scopes, version=version)


def require_permission(caller: Caller, permission: Permission) -> None:
    """Require a permission if the caller is an operator; others are limited by their scopes."""
    if caller.kind == "operator" and caller.permission < permission:
        raise NotAllowed


def require_operator(caller: Caller, permission: Permission) -> None:
    """Require an operator of the HTTP API with this permission; no scope of a socket suffices."""
    if caller.kind != "operator" or caller.permission < permission:
        raise NotAllowed


def require_admin(caller: Caller) -> None:
    """Require operator.admin, as all operators have."""
    if not caller.is_admin:
        raise NotAllowed


def require_read(caller: Caller) -> None:
    """Require the right to see which devices are connected."""
    if not covers(caller.scopes, READ, "operator"):
        raise MissingScope(READ)


def require_pairing(caller: Caller) -> None:
    """Require the right to call device methods."""
    if not caller.is_admin and not covers(caller.scopes, PAIRING, "operator"):
        raise MissingScope(PAIRING)


def can_see(caller: Caller, device_id: str) -> bool:
    """Return whether a device appears in this caller's lists."""
    return not caller.confined or caller.device_id == device_id


def require_approve(caller: Caller, record: Record, pending: Pending) -> list[str]:
    """Require the right to approve a request; return the operator scopes that this enables."""
    to_hold = scopes_to_hold(record, pending)
    if caller.is_admin:
        return to_hold
    if caller.confined and record.device_id != caller.device_id:
        raise NotAllowed
    if any(role != "operator" for role in pending.roles):
        raise NotAllowed
    missing = first_uncovered(caller.scopes, to_hold, "operator")
    if missing is not None:
        raise MissingScope(missing)
    return to_hold


def require_manage(caller: Caller, device_id: str, pairing: Pairing | None) -> None:
    """Require the right to remove or rename this device; without a pairing, check only the id."""
    if not caller.confined:
        return
    if device_id != caller.device_id:
        raise NotAllowed
    if pairing is not None and any(role != "operator" for role in pairing.roles):
        raise NotAllowed


def require_remove_node(caller: Caller, pairing: Pairing) -> None:
    """Require the right to take the node role away; OpenClaw asks for the same.

    `operator.pairing`, which every method that changes something requires, is enough for a device
    that is nothing else.
    """
    if not caller.is_admin and any(role != "node" for role in pairing.roles):
        raise NotAllowed


def require_token(
    caller: Caller, device_id: str, role: str, held: Sequence[str], wanted: Iterable[str]
) -> None:
    """Require the right to rotate a token from `held` to `wanted` scopes, or to revoke it."""
    if caller.is_admin:
        return
    if role != "operator" or not can_see(caller, device_id):
        raise NotAllowed
    missing = first_uncovered(caller.scopes, (*held, *wanted), "operator")
    if missing is not None:
        raise MissingScope(missing)
