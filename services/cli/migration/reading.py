"""Reads all pairing records of an OpenClaw state directory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from services.cli.errors import ApiError
from services.cli.migration import database
from services.cli.migration.location import Location, not_read
from services.cli.migration.records import RefusedRecord, device_of
from services.cli.text.words import escaped

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from services.approval.imports.records import ImportDevice

DEVICES_LIMIT: Final = 50_000
"""Max. devices of one import."""
FILE_LIMIT_BYTES: Final = 64 * 1_048_576
"""Max. size of a JSON file."""


@dataclass(slots=True)
class FoundRecords:
    """The pairing records of a state directory.

    `release` is the OpenClaw release that wrote them, as far as it can be told. `pending`: requests
    that nobody has decided; they are not imported, because their devices ask again.
    """

    source: str
    release: str
    devices: list[ImportDevice] = field(default_factory=list)
    refused: list[RefusedRecord] = field(default_factory=list)
    pending: int = 0


def read_records(location: Location, *, with_tokens: bool) -> FoundRecords:
    """Read all records; raises ApiError if that is not possible as a whole.

    If a release with a database has not taken over the JSON files of an earlier one yet, both are
    read, and a device in the database comes first: that is what OpenClaw itself does.
    """
    if location.database is None and location.paired is None:
        raise ApiError(
            "not-openclaw",
            f"{location.shown} has no pairing records of OpenClaw: neither state/openclaw.sqlite "
            "nor devices/paired.json.",
        )
    found = FoundRecords("", "")
    records: list[object] = []
    if location.database is not None:
        with database.reading(location.database) as connection:
            found.release = database.require_known(connection, location.database)
            _require_count(location, database.count_rows(connection, database.PAIRED_TABLE))
            records += database.paired_records(connection)
            found.pending = database.count_rows(connection, database.PENDING_TABLE)
        found.source = str(location.database)
    if location.paired is not None:
        known = {one["deviceId"] for one in records if isinstance(one, dict)}
        records += [
            {"deviceId": name, **record}
            for name, record in json_records(location.paired).items()
            if name not in known
        ]
        found.source = found.source or str(location.paired)
        found.release = found.release or "before 2026.9"
        if location.pending is not None:
            found.pending += len(json_records(location.pending))
    _require_count(location, len(records))
    _sort(records, found, with_tokens=with_tokens)
    return found


def json_records(file: Path) -> dict[str, Any]:
    """Return the records of a JSON file by id; raises ApiError."""
    shown = escaped(str(file))
    try:
        with file.open("rb") as opened:
            text = opened.read(FILE_LIMIT_BYTES + 1)
    except OSError as error:
        raise not_read(file, error) from error
    if len(text) > FILE_LIMIT_BYTES:
        raise ApiError("too-large", f"{shown} is larger than {FILE_LIMIT_BYTES >> 20} MiB.")
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ApiError("openclaw-damaged", f"{shown} is damaged or incomplete: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(one, dict) for one in found.values()):
        raise ApiError(
            "not-openclaw", f"{shown} is not a file of pairing records: it holds no objects by id."
        )
    return found


def _require_count(location: Location, count: int) -> None:
    if count > DEVICES_LIMIT:
        raise ApiError(
            "too-large",
            f"{location.shown} has {count} paired devices; at most {DEVICES_LIMIT} can be imported "
            "at once.",
        )


def _sort(records: Iterable[object], found: FoundRecords, *, with_tokens: bool) -> None:
    known: set[str] = set()
    for record in records:
        device = device_of(record, with_tokens=with_tokens)
        if isinstance(device, RefusedRecord):
            found.refused.append(device)
        elif device.device_id in known:
            found.refused.append(RefusedRecord(device.device_id, "it is there twice"))
        else:
            known.add(device.device_id)
            found.devices.append(device)
