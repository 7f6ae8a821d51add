"""Format of backup files: one JSON object per line; the last line proves completeness.

    {"latchkeyBackup": 1, "madeAtMs": 1795328627349}
    {"device": {"deviceId": "…", "publicKey": "…", "pairing": {…}, "seen": {…}}}
    {"removed": "…"}                    a device listed above was removed meanwhile
    {"audit": {…}}                      for information only; not restored
    {"end": {"number": 41, "devices": 7, "audit": 41, "sha256": "…"}}

A later line of a device replaces an earlier one. `number` is the change at which the backup is
consistent, `devices` the number of remaining devices, `sha256` the digest of all bytes above
followed by "41 7 41". The file contains no secrets: deriving a device token from it requires
TOKEN_SECRET.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import Meta

from services.approval.backup.records import BackupDevice, Moment, to_backup, unsound
from services.approval.domain.records import (  # noqa: TC001 (msgspec reads them)
    AuditEntry,
    ChangeNumber,
    Count,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from hashlib import _Hash as _Digest

    from services.approval.domain.records import LastSeen, Record

FORMAT: Final = 1
MEDIA_TYPE: Final = "application/jsonl"
LINE_LIMIT_BYTES: Final = 1_048_576

Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]


class End(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Last line: what the file contains, and as of which change."""

    number: ChangeNumber
    devices: Count
    audit: Count
    sha256: Sha256


class Line(
    msgspec.Struct, rename="camel", omit_defaults=True, frozen=True, forbid_unknown_fields=True
):
    """A line of a backup; it has exactly one field, except for `madeAtMs` in the first line."""

    latchkey_backup: int = 0
    made_at_ms: Moment = 0
    device: BackupDevice | None = None
    removed: str = ""
    audit: AuditEntry | None = None
    end: End | None = None


class BrokenBackup(Exception):
    """The file is not a backup, incomplete or altered; the message says which."""


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Line).decode


class Writer:
    """Produces the lines of a backup; holds only ids and a digest in memory."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._devices: set[str] = set()
        self._audit = 0

    def head(self, now_ms: int) -> bytes:
        """Return the first line."""
        return self._line_bytes(Line(latchkey_backup=FORMAT, made_at_ms=now_ms))

    def device(self, device_id: str, record: Record | None, seen: LastSeen | None) -> bytes:
        """Return the line of a paired or removed device; empty if it was never in the backup."""
        if record is not None and record.pairing is not None:
            self._devices.add(device_id)
            return self._line_bytes(Line(device=to_backup(record, record.pairing, seen)))
        if device_id not in self._devices:
            return b""
        self._devices.discard(device_id)
        return self._line_bytes(Line(removed=device_id))

    def audit(self, entry: AuditEntry) -> bytes:
        """Return the line of an audit log entry."""
        self._audit += 1
        return self._line_bytes(Line(audit=entry))

    def end(self, number: int) -> bytes:
        """Return the last line, stating that all lines above are as of this change."""
        counts = (number, len(self._devices), self._audit)
        return self._line_bytes(Line(end=End(*counts, _digest_with(self._digest, *counts))))

    def _line_bytes(self, line: Line) -> bytes:
        encoded = _encode(line) + b"\n"
        self._digest.update(encoded)
        return encoded


@dataclass(slots=True)
class Backup:
    """A complete backup that was read."""

    id: str
    """Digest of the backup."""
    made_at_ms: int
    number: int
    devices: dict[str, BackupDevice] = field(default_factory=dict)
    audit: int = 0


def read(lines: Iterable[bytes]) -> Backup:
    """Read a backup; raise BrokenBackup if it is not complete and intact."""
    digest, backup = hashlib.sha256(), None
    number = 0
    for number, text in enumerate(lines, 1):
        line = _line(text, number)
        if backup is None:
            if line.latchkey_backup != FORMAT:
                raise BrokenBackup(_unknown(line))
            backup = Backup("", line.made_at_ms, 0)
        elif backup.id:
            message = f"line {number}: unexpected data after the end"
            raise BrokenBackup(message)
        elif line.end is not None:
            _close(backup, line.end, digest)
        elif line.device is not None:
            _require_sound(line.device, number)
            backup.devices[line.device.device_id] = line.device
        elif line.audit is not None:
            backup.audit += 1
        elif backup.devices.pop(line.removed, None) is None:
            message = f"line {number}: unknown content"
            raise BrokenBackup(message)
        digest.update(text)
    if backup is None or not backup.id:
        message = f"incomplete: it ends after {number} lines" if number else "it is empty"
        raise BrokenBackup(message)
    return backup


def _close(backup: Backup, end: End, digest: _Digest) -> None:
    if end.sha256 != _digest_with(digest, end.number, end.devices, end.audit):
        message = "it was altered: the digest does not match"
        raise BrokenBackup(message)
    if (end.devices, end.audit) != (len(backup.devices), backup.audit):
        message = "its contents do not match its last line"
        raise BrokenBackup(message)
    backup.id, backup.number = end.sha256, end.number


def _digest_with(digest: _Digest, number: int, devices: int, audit: int) -> str:
    whole = digest.copy()
    whole.update(b"%d %d %d" % (number, devices, audit))
    return whole.hexdigest()


def _line(text: bytes, number: int) -> Line:
    if len(text) > LINE_LIMIT_BYTES:
        message = f"line {number}: too long for a line of a backup"
        raise BrokenBackup(message)
    if not text.endswith(b"\n"):
        message = f"line {number}: truncated"
        raise BrokenBackup(message)
    try:
        return _decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        message = f"line {number}: {error}"
        raise BrokenBackup(message) from None


def _unknown(line: Line) -> str:
    if line.latchkey_backup:
        return f"it has format {line.latchkey_backup}, and this release reads {FORMAT}"
    return "line 1: not a Latchkey backup"


def _require_sound(device: BackupDevice, number: int) -> None:
    if why := unsound(device):
        message = f"line {number}: {device.device_id}: {why}"
        raise BrokenBackup(message)
