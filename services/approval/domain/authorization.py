"""Who may do what to whom (contract §10). Pure: each function returns, or raises NotAllowed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from services.approval.domain.errors import MissingScope, NotAllowed
from shared.protocol.scopes import ADMIN, PAIRING, READ, covers, first_uncovered

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from services.approval.domain.records import Pairing, Pending, Record

Kind = Literal["operator", "gateway", "shared-secret", "device-token"]


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever calls the registry.

    `operator`: holds the admin token. `gateway`: a gateway on its own behalf. `shared-secret`,
    `device-token`: a socket, by how it was authenticated; `device_id` is the caller's own, `scopes`
    its live ones. `name` is for the audit log. A socket's call has an id and a time after which it
    does nothing (ms, store's clock).
    """

    kind: Kind
    name: str
    scopes: tuple[str, ...]
    device_id: str = ""
    epoch: str = ""
    call_id: str = ""
    not_after_ms: int = 0
    version: str = ""
    """Of the caller's own record, as it was judged by."""

    @property
    def has_record(self) -> bool:
        """Whether the caller stands or falls with a record of its own."""
        return self.kind == "device-token" or (
            self.kind == "shared-secret" and self.device_id != ""
        )

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


def restrict(caller: Caller, version: str, record: Record | None) -> Caller:
    """Return a caller with the scopes that its own record bears out, and no more (R12).

    What the gateway says of it may be old. A socket that its record has closed holds nothing.
    """
    pairing = record.pairing if record else None
    token = pairing.tokens.get("operator") if pairing else None
    scopes: tuple[str, ...] = ()
    if pairing and token and token.active and token.epoch == caller.epoch:
        scopes = tuple(one for one in caller.scopes if covers(pairing.scopes, one, "operator"))
    return replace(caller, scopes=scopes, version=version)


def require_read(caller: Caller) -> None:
    """Let pass who may see who is connected."""
    if not covers(caller.scopes, READ, "operator"):
        raise MissingScope(READ)


def require_pairing(caller: Caller) -> None:
    """Let pass who may use the device methods at all."""
    if not covers(caller.scopes, PAIRING, "operator"):
        raise MissingScope(PAIRING)


def can_see(caller: Caller, device_id: str) -> bool:
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
    if not can_see(caller, device_id):
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
    if role != "operator" or not can_see(caller, device_id):
        raise NotAllowed
    missing = first_uncovered(caller.scopes, (*held, *wanted), "operator")
    if missing is not None:
        raise MissingScope(missing)
