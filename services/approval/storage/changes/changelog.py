"""Decodes the history in Redis: head, change log and audit log. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import msgspec

from services.approval.domain.errors import StoreUnavailable
from services.approval.domain.records import AuditEntry
from shared.rpc.messages import Changed, Position

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Entry = tuple[bytes, dict[bytes, bytes]]

_HEAD: Final = re.compile(rb"[0-9]{1,16}:[ -~]*")
HEADS_REMEMBERED: Final = 16
"""Size of the cache of decoded heads."""
UNREADABLE_ENTRY: Final = "unreadable"
"""Action of an audit log entry that cannot be decoded."""
_UNREADABLE: Final = (msgspec.MsgspecError, ValueError, KeyError, RecursionError)
_decode_changed: Final = msgspec.msgpack.Decoder(Changed).decode
_decode_entry: Final = msgspec.json.Decoder(AuditEntry).decode


class InvalidHead(StoreUnavailable):
    """The number of the newest change cannot be read."""

    def __init__(self) -> None:
        super().__init__("the number of the newest change cannot be read")


class UnreadableLog(Exception):
    """The change log contains an invalid entry."""


@dataclass(frozen=True, slots=True)
class Followed:
    """Audit entries after a position, oldest first, and the position reached.

    `lost`: the entries are not available, because history was lost or no longer reaches back that
    far; then `at` is the head.
    """

    entries: list[AuditEntry]
    at: Position
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Audited:
    """An audit log entry and the position of its change."""

    change: Position
    entry: AuditEntry


@lru_cache(HEADS_REMEMBERED)
def decode_head(head: bytes | None) -> Position:
    """Return the position of the newest change; Position() if there are no changes.

    Raises InvalidHead. Many decisions are made between two changes, so that the last heads are
    remembered.
    """
    if head is None:
        return Position()
    if not _HEAD.fullmatch(head):
        raise InvalidHead
    number, tag = head.decode().split(":", 1)
    return Position(int(number), tag)


def decode_change(entry_id: bytes, fields: Sequence[bytes]) -> Changed:
    """Decode a change log entry as returned by heartbeat.lua: names and values alternate.

    Raises UnreadableLog for an invalid entry.
    """
    try:
        values = dict(zip(fields[::2], fields[1::2], strict=True))
        return msgspec.structs.replace(
            _decode_changed(values[b"body"]),
            change=Position(int(entry_id.split(b"-")[0]), values[b"tag"].decode()),
            previous_tag=values[b"previous"].decode(),
        )
    except _UNREADABLE:
        raise UnreadableLog from None


def decode_changes(found: Iterable[tuple[bytes, Sequence[bytes]]], max_bytes: int) -> list[Changed]:
    """Return the first entries, up to a total size of `max_bytes` but at least one."""
    changes: list[Changed] = []
    size = 0
    for entry_id, fields in found:
        size += sum(map(len, fields))
        if changes and size > max_bytes:
            break
        changes.append(decode_change(entry_id, fields))
    return changes


def entry_of(entry_id: bytes, fields: dict[bytes, bytes]) -> Audited:
    """Decode an entry of the audit stream; an unreadable one gets the action `unreadable`."""
    change = _place(entry_id, fields)
    return Audited(change, _entry(fields.get(b"entry", b""), change.number))


def decision_of(member: bytes) -> Audited:
    """Decode a member of the set of decisions: number, tag and entry."""
    place, _, entry = member.partition(b"\n")
    number, _, tag = place.decode(errors="replace").partition(":")
    change = Position(int(number) if number.isdecimal() else 0, tag)
    return Audited(change, _entry(entry, change.number))


def _entry(value: bytes, number: int) -> AuditEntry:
    try:
        return msgspec.structs.replace(_decode_entry(value), id=number)
    except _UNREADABLE:
        return AuditEntry(UNREADABLE_ENTRY, "", "", 0, id=number)


def changed_after(place: Position, found: Sequence[Entry]) -> tuple[Position, list[str]]:
    """Return the devices whose records changed after a position, and the position reached.

    `found` is the change log starting at the position. Raises StoreUnavailable if it does not
    contain the position.
    """
    first = 0
    if place.number:
        first = 1
        known = found and _place(*found[0]) == place
    else:
        known = not found or _place(*found[0]).number == 1
    if not known:
        message = "history was lost, or the change log no longer reaches back that far"
        raise StoreUnavailable(message)
    after = found[first:]
    try:
        changed = [_decode_changed(fields[b"body"]).device_id for _id, fields in after]
    except _UNREADABLE:
        raise UnreadableLog from None
    reached = _place(*after[-1]) if after else place
    return reached, [one for one in dict.fromkeys(changed) if one]


def followed(
    place: Position, head: Position, merged: Sequence[Audited], *, oldest: int | None, limit: int
) -> Followed:
    """Return at most `limit` entries after a position.

    `merged` is the audit log from the position on, with the decisions after it; `oldest` is the
    number of the first entry that the stream still holds. Not every change has an entry: entries
    above a source's limit are summarised later.
    """
    known = place.number <= head.number and oldest is not None and oldest <= place.number + 1
    same = next((one.change for one in merged if one.change.number == place.number), None)
    if same is not None and place.tag and same.tag != place.tag:
        known = False
    if not known:
        return Followed([], head, lost=True)
    after = [one for one in merged if one.change.number > place.number][:limit]
    at = after[-1].change if after else head
    if len(after) < limit and at.number < head.number:
        at = head
    return Followed([one.entry for one in after], at)


def _place(entry_id: bytes, fields: dict[bytes, bytes]) -> Position:
    tag = fields.get(b"tag", b"").decode(errors="replace")
    return Position(int(entry_id.split(b"-")[0]), tag)
