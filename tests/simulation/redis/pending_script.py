"""The part of commit.lua that makes room for a new request: pending.lua in Python."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from services.approval.domain.records import (
    DISPLACED,
    AuditEntry,
    Pending,
    Record,
    RequestNote,
    decode_record,
    encode,
)
from services.approval.storage.keys import PENDING_NAMES, address_key, device_key, within_key
from shared.rpc.messages import Changed, Position

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.simulation.redis.database import Database, Word

CORRECTIONS: Final = 100
LIST, HOLDERS, REINDEX = (PENDING_NAMES[name] for name in ("list", "holders", "reindex"))


@dataclass(frozen=True)
class Displaced:
    """A request that gives way, and the path to its address."""

    device_id: str
    path: list[str]
    record: Record
    pending: Pending


class Room:
    """What a commit does for its new request, if it has one, to keep to the limits."""

    def __init__(self, data: Database, plan: dict[str, Any]) -> None:
        self._data = data
        self._plan = plan
        self._new: dict[str, Any] = plan.get("pending", {})
        self.full = False
        self._found = self._find() if self._new else None

    @property
    def displaced(self) -> list[bytes] | None:
        """Return the request that gives way, for the reply."""
        found = self._found
        return [found.device_id.encode(), found.pending.request_id.encode()] if found else None

    def add_change(self, args: Sequence[Word]) -> Sequence[Word]:
        """Add the displacement to the plan's changes; returns the arguments with its bytes."""
        if self._found is None:
            return args
        args = [*args, *_encoded_change(self._found, self._new["at_ms"])]
        counted = self._new["counted"]
        change = (self._new["tag"], len(args) - 1, len(args), False, counted)
        self._plan["changes"].insert(0, change)
        return args

    def displace(self, now_ms: int) -> None:
        """End the displaced request: its record, its note and its places in the indexes."""
        if self._found is None:
            return
        data, found, new = self._data, self._found, self._new
        device_id, record = found.device_id, found.record
        if record.pairing is not None:
            left = encode(msgspec.structs.replace(record, pending=None))
            data.set(device_key(device_id), new["version"].encode() + left)
        else:
            for name in ("device", "seen", "refused"):
                data.delete(PENDING_NAMES[name] + device_id)
        data.take(LIST, device_id)
        data.take(address_key(found.path[-1]), device_id)
        note = RequestNote(device_id, DISPLACED, new["at_ms"])
        key = PENDING_NAMES["request"] + found.pending.request_id
        data.set(key, encode(note), now_ms + new["kept_ms"])

    def count_requests(self) -> None:
        """Count the requests of the addresses that the plan has changed."""
        paths = list(self._plan["counted"]) + ([self._found.path] if self._found else [])
        for path in paths:
            _set_count(self._data, path, len(self._data.sorted.get(address_key(path[-1]), {})))

    def _find(self) -> Displaced | None:
        """Return the request that gives way; None if there is room, or if the list is full."""
        data, own, device_id = self._data, list(self._new["path"]), self._new["device"]
        for _ in range(CORRECTIONS):
            of_address = data.sorted.get(address_key(own[-1]), {})
            listed = data.sorted.get(LIST, {})
            if device_id not in of_address and len(of_address) >= self._new["per_address"]:
                path = own
            elif device_id not in listed and len(listed) >= self._new["total"]:
                path = _path(data, own, len(listed))
            else:
                return None
            if not path:
                break
            key = address_key(path[-1])
            members = [member for _score, member in data.ranked(key)][:2]
            for member in [one for one in members if one != device_id][:1]:
                found = _request(data, member, path)
                if found is not None:
                    return found
                data.take(key, member)
            _set_count(data, path, len(data.sorted.get(key, {})))
        self.full = True
        return None


def _set_count(data: Database, path: Sequence[str], count: float) -> None:
    """Set the number of requests of a holder, and those of the larger ones as sums."""
    for level in range(len(path) - 1, -1, -1):
        key = within_key(path[level - 1]) if level else HOLDERS
        if count:
            data.add(key, count, path[level])
        else:
            data.take(key, path[level])
        count = sum(data.sorted.get(key, {}).values())


def _path(data: Database, own: list[str], listed: int) -> list[str]:
    """Return the path to the address that gives way to a new request; empty if none does."""
    name, most, held = _largest(data, HOLDERS, own[0])
    if len(data.sorted.get(HOLDERS, {})) * most < listed:
        data.texts.setdefault(REINDEX, b"1")
    if most < held + 2:
        if not held:
            return []
        name = own[0]
    path = [name]
    while name.endswith(("/48", "/56")):
        mine = own[len(path)] if own[: len(path)] == path else ""
        name, _most, _held = _largest(data, within_key(name), mine)
        if not name:
            break
        path.append(name)
    return path


def _largest(data: Database, key: str, own: str) -> tuple[str, float, float]:
    """Return the member with the highest score (own, if no other is higher), it, and own's."""
    ranked = data.ranked(key)
    most, first = ranked[-1] if ranked else (0, "")
    held = data.sorted.get(key, {}).get(own, 0)
    return (own if own and held == most else first), most, held


def _request(data: Database, device_id: str, path: list[str]) -> Displaced | None:
    """Return a device's request, if it has one from the address at the end of a path."""
    stored = data.texts.get(device_key(device_id), b"")
    try:
        record = decode_record(stored[16:])
    except msgspec.MsgspecError:
        return None
    if record.pending is None or record.pending.limit_key != path[-1]:
        return None
    return Displaced(device_id, path, record, record.pending)


def _encoded_change(found: Displaced, at_ms: int) -> tuple[bytes, bytes]:
    """Return the change and the audit entry of a displaced request."""
    pending = found.pending
    request_id = pending.request_id
    change = Changed(Position(), "", found.device_id, DISPLACED, at_ms, request_id=request_id)
    entry = AuditEntry(
        DISPLACED,
        found.device_id,
        "limit",
        at_ms,
        request_id=request_id,
        role=pending.role,
        roles=pending.roles,
        scopes=pending.scopes,
        address=pending.metadata.address,
    )
    return msgspec.msgpack.encode(change), msgspec.json.encode(entry)
