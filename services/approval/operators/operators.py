"""Creates, lists and revokes named operators; for operators who may manage."""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from services.approval.domain import authorization
from services.approval.domain.authorization import ADMIN_OPERATOR
from services.approval.domain.errors import (
    InvalidExpiry,
    InvalidName,
    OperatorExists,
    StoreUnavailable,
    TooManyOperators,
    UnknownOperator,
)
from services.approval.domain.operators import (
    OPERATORS_LIMIT,
    SECRET_BYTES,
    OperatorRecord,
    Operators,
    digest_of,
    is_name,
    make_token,
)
from services.approval.domain.permissions import Permission
from services.approval.domain.records import AuditEntry
from services.approval.storage.changes.transaction import Transaction
from services.approval.storage.keys import OPERATORS, operator_used_key
from shared.rpc.messages import Changed, Position

if TYPE_CHECKING:
    from services.approval.domain.authorization import Caller
    from services.approval.storage.changes.transaction_log import TransactionLog
    from services.approval.storage.store import Store

CREATED: Final = "operator-created"
REVOKED: Final = "operator-revoked"
"""Actions in the audit log; `label` is the operator's name."""
TRIES_LIMIT: Final = 32
"""Max. attempts at a commit that conflicts with others."""


@dataclass(frozen=True, slots=True)
class ListedOperator:
    """An operator, and when it was last active (0: unknown). `record` is None for the admin."""

    name: str
    record: OperatorRecord | None
    last_used_ms: int


class OperatorService:
    """Named operators. Every method may raise RegistryError."""

    def __init__(self, store: Store, ledger: TransactionLog) -> None:
        self._store = store
        self._ledger = ledger

    async def list(self, caller: Caller) -> list[ListedOperator]:
        """Return all operators by name, the holder of APPROVAL_ADMIN_TOKEN first."""
        authorization.require_operator(caller, Permission.MANAGE)
        found = sorted((await self._store.operators.all()).by_name.items())
        ids = [ADMIN_OPERATOR, *(record.id for _name, record in found)]
        admin_ms, *used = await self._store.operators.last_used(ids)
        return [
            ListedOperator(ADMIN_OPERATOR, None, admin_ms),
            *(
                ListedOperator(name, record, at_ms)
                for (name, record), at_ms in zip(found, used, strict=True)
            ),
        ]

    async def create(
        self, caller: Caller, name: str, permission: Permission, expires_at_ms: int = 0
    ) -> tuple[OperatorRecord, str]:
        """Create an operator; return its record and its token, which is not stored."""
        authorization.require_operator(caller, Permission.MANAGE)
        if not is_name(name):  # the API's pattern allows a line break at the end
            raise InvalidName
        secret = base64.urlsafe_b64encode(secrets.token_bytes(SECRET_BYTES)).decode().rstrip("=")
        token = make_token(name, secret)
        for _ in range(TRIES_LIMIT):
            now_ms = self._store.now_ms()
            known = await self._store.operators.all()
            if name in known.by_name or name == ADMIN_OPERATOR:
                raise OperatorExists
            if len(known.by_name) >= OPERATORS_LIMIT:
                raise TooManyOperators
            if expires_at_ms and expires_at_ms <= now_ms:
                raise InvalidExpiry
            record = OperatorRecord(
                id=secrets.token_hex(16),
                permission=permission.label,
                digest=digest_of(token),
                created_at_ms=now_ms,
                created_by=caller.name,
                expires_at_ms=expires_at_ms,
            )
            after = Operators(known.version, {**known.by_name, name: record})
            if await self._commit(caller, CREATED, name, after, record):
                return record, token
        raise StoreUnavailable(_KEPT_CHANGING)

    async def revoke(self, caller: Caller, name: str) -> OperatorRecord:
        """Revoke an operator's token and end its sessions, at every replica at once."""
        authorization.require_operator(caller, Permission.MANAGE)
        for _ in range(TRIES_LIMIT):
            known = await self._store.operators.all()
            record = known.by_name.get(name)
            if record is None:
                raise UnknownOperator
            left = {other: its for other, its in known.by_name.items() if other != name}
            if await self._commit(caller, REVOKED, name, Operators(known.version, left), record):
                return record
        raise StoreUnavailable(_KEPT_CHANGING)

    async def _commit(
        self, caller: Caller, action: str, name: str, after: Operators, record: OperatorRecord
    ) -> bool:
        """Try to replace the operators that were read; return False on a conflict."""
        now_ms = self._store.now_ms()
        entry = Transaction(caller.name, now_ms)
        plan = entry.plan
        plan.expect(OPERATORS, after.version)
        plan.put(OPERATORS, after.encoded())
        if action == REVOKED:
            plan.write("DEL", operator_used_key(record.id))
        plan.change(
            Changed(Position(), "", device_id="", kind=action, at_ms=now_ms),
            AuditEntry(
                action=action,
                device_id="",
                actor=caller.name,
                at_ms=now_ms,
                label=name,
                permission=record.permission,
            ),
        )
        return (await self._ledger.commit(entry)).outcome == "done"


_KEPT_CHANGING: Final = "the operators could not be changed: they kept changing concurrently"
