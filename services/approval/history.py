"""History as Redis keeps it: its head, its change log and its audit log, decoded. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from services.approval.errors import StoreUnavailable
from services.approval.plan import AuditEntry
from shared.messages import Change, Changed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Entry = tuple[bytes, dict[bytes, bytes]]

_decode_changed: Final = msgspec.msgpack.Decoder(Changed).decode
_decode_entry: Final = msgspec.json.Decoder(AuditEntry).decode


@dataclass(frozen=True, slots=True)
class Followed:
    """What came after a place in history, oldest first, and the place reached.

    `lost`: it cannot be told, because history went back or no longer reaches so far; then `at` is
    the present.
    """

    entries: list[AuditEntry]
    at: Change
    lost: bool = False


def decode_head(head: bytes | None) -> Change:
    """Return the newest change; the one before all others where there is none."""
    if not head:
        return Change()
    number, tag = head.decode().split(":", 1)
    return Change(int(number), tag)


def decode_change(entry_id: bytes, fields: Sequence[bytes]) -> Changed:
    """Return an entry of the change log as the beat's script gives it: names and values in turn."""
    values = dict(zip(fields[::2], fields[1::2], strict=True))
    return msgspec.structs.replace(
        _decode_changed(values[b"body"]),
        change=Change(int(entry_id.split(b"-")[0]), values[b"tag"].decode()),
        previous_tag=values[b"previous"].decode(),
    )


def decode_changes(
    found: Iterable[tuple[bytes, Sequence[bytes]]], most_bytes: int
) -> list[Changed]:
    """Return the first entries of the change log that are no larger together; always the first."""
    changes: list[Changed] = []
    size = 0
    for entry_id, fields in found:
        size += sum(map(len, fields))
        if changes and size > most_bytes:
            break
        changes.append(decode_change(entry_id, fields))
    return changes


def entries_of(found: Sequence[Entry]) -> list[AuditEntry]:
    """Return these entries of the audit log, each with its number."""
    return [
        msgspec.structs.replace(_decode_entry(fields[b"entry"]), id=_place(entry_id, fields).number)
        for entry_id, fields in found
    ]


def changed_after(place: Change, found: Sequence[Entry]) -> tuple[Change, list[str]]:
    """Return whose records changed after a place, each once, and the place reached.

    `found` is the change log from the place on. Raises StoreUnavailable where it does not hold
    the place.
    """
    first = 0
    if place.number:
        first = 1
        known = found and _place(*found[0]) == place
    else:
        known = not found or _place(*found[0]).number == 1
    if not known:
        message = "history was lost, or the change log no longer reaches so far"
        raise StoreUnavailable(message)
    after = found[first:]
    changed = [_decode_changed(fields[b"body"]).device_id for _id, fields in after]
    reached = _place(*after[-1]) if after else place
    return reached, [one for one in dict.fromkeys(changed) if one]


def followed(place: Change, head: Change, found: Sequence[Entry]) -> Followed:
    """Return what came after a place; `found` is the audit log from the place on."""
    places = [_place(entry_id, fields) for entry_id, fields in found]
    if place.number == 0:
        known = not places or places[0].number == 1
    else:
        known = bool(places) and places[0].number == place.number
        known = known and places[0].tag == (place.tag or places[0].tag)
        found = found[1:]
    if not known or place.number > head.number:
        return Followed([], head, lost=True)
    return Followed(entries_of(found), places[-1] if places else head)


def _place(entry_id: bytes, fields: dict[bytes, bytes]) -> Change:
    return Change(int(entry_id.split(b"-")[0]), fields.get(b"tag", b"").decode())
