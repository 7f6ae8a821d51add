"""Imports devices in parts; each part is one commit.

A device that is paired already is left alone, so an import that was interrupted can be repeated: it
adds what is missing. A part that is sent again with the same import id gets its first answer.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import msgspec

from services.approval.domain import authorization
from services.approval.domain.errors import StoreUnavailable
from services.approval.domain.permissions import Permission
from services.approval.domain.records import EXPIRED, Record
from services.approval.imports.records import (
    ImportDevice,
    ImportedDevice,
    ImportedPart,
    pairing_of,
    problem_of,
    returns_with,
)
from services.approval.storage.changes.transaction import Transaction, address_source
from shared.protocol.scopes import ADMIN, covers_all

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.approval.domain.authorization import Caller
    from services.approval.domain.pairing import IdFactory
    from services.approval.domain.records import Pairing, VersionedRecord
    from services.approval.domain.tokens import TokenKeys
    from services.approval.storage.changes.transaction_log import TransactionLog
    from services.approval.storage.store import Store

IMPORTED: Final = "imported"
TRIES_LIMIT: Final = 32
"""Max. attempts at a part that conflicts with concurrent changes."""


@dataclass(frozen=True, slots=True)
class Part:
    """Devices of one import; `dry_run`: say what would happen, and change nothing."""

    import_id: str
    devices: Sequence[ImportDevice]
    dry_run: bool


class ImportService:
    """Imports devices. Every method may raise RegistryError."""

    def __init__(
        self, store: Store, ledger: TransactionLog, keys: TokenKeys, draws: IdFactory
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._keys = keys
        self._draws = draws

    async def run(self, caller: Caller, part: Part) -> ImportedPart:
        """Import a part, or say what would happen."""
        authorization.require_admin(caller)
        authorization.require_permission(caller, Permission.MANAGE)
        for _ in range(TRIES_LIMIT):
            done = await self._try(caller, part)
            if done is not None:
                return done
        message = "the devices could not be imported: their records kept changing"
        raise StoreUnavailable(message)

    async def _try(self, caller: Caller, part: Part) -> ImportedPart | None:
        """Try once; None on a conflict, after which everything must be read again."""
        call = _with_call_id(caller, part)
        entry = Transaction(caller.name, self._store.now_ms())
        result = ImportedPart(await self._plan(entry, part))
        if part.dry_run:
            return result
        return await self._ledger.commit_call(entry, call, result)

    async def _plan(self, entry: Transaction, part: Part) -> list[ImportedDevice]:
        """Add the changes of a part to a commit; return the outcomes."""
        problems: dict[int, str] = {}
        sound: dict[str, int] = {}
        for number, device in enumerate(part.devices):
            why = problem_of(device)
            if why or sound.setdefault(device.device_id, number) != number:
                problems[number] = why or "it is in the import twice"
        _head, found = await self._store.load_surely(list(sound))
        held = dict(zip(sound, found, strict=True))
        return [
            _refused(device, problems[number])
            if number in problems
            else self._add(entry, part, device, held[device.device_id])
            for number, device in enumerate(part.devices)
        ]

    def _add(
        self, entry: Transaction, part: Part, device: ImportDevice, held: VersionedRecord
    ) -> ImportedDevice:
        if held.unreadable:
            return _refused(device, "its record here cannot be read: remove the device first")
        if held.record is not None and held.record.pairing is not None:
            same = _covers(held.record.pairing, device)
            return ImportedDevice(
                device_id=device.device_id, outcome="exists" if same else "differs"
            )
        pending = held.record.pending if held.record is not None else None
        if pending is not None:
            entry.end_request(device.device_id, pending, EXPIRED)
            entry.change(
                EXPIRED,
                device.device_id,
                pending=pending,
                source=address_source(pending.limit_key),
            )
        pairing = pairing_of(device, now_ms=entry.now_ms, keys=self._keys, draws=self._draws)
        record = Record(device.device_id, device.public_key, pairing)
        entry.replace(held, record, device.device_id)
        entry.change(
            IMPORTED,
            device.device_id,
            role=device.role,
            scopes=device.scopes,
            label=f"import {part.import_id}",
        )
        return ImportedDevice(
            device_id=device.device_id,
            outcome="added",
            grants_admin=ADMIN in device.scopes,
            returns_with=returns_with(pairing),
        )


def _with_call_id(caller: Caller, part: Part) -> Caller:
    """Return the caller with a call id for this part of its import."""
    digest = hashlib.sha256(msgspec.json.encode([one.device_id for one in part.devices]))
    call_id = f"import:{part.import_id}:{digest.hexdigest()[:32]}"
    return replace(caller, call_id=call_id)


def _covers(pairing: Pairing, device: ImportDevice) -> bool:
    if not set(device.roles) <= set(pairing.roles):
        return False
    return all(
        covers_all(
            pairing.scopes, [one for one in device.scopes if one.startswith(f"{role}.")], role
        )
        for role in device.roles
    )


def _refused(device: ImportDevice, why: str) -> ImportedDevice:
    return ImportedDevice(device_id=device.device_id, outcome="refused", why=why)
