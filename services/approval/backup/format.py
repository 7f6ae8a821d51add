"""The backup file: one JSON object a line, the last of which says that it is whole.

    {"latchkeyBackup": 1, "madeAtMs": 1795328627349}
    {"device": {"deviceId": "…", "publicKey": "…", "pairing": {…}, "seen": {…}}}
    {"removed": "…"}                    a device that stands above was removed meanwhile
    {"audit": {…}}                      documentation: it is not restored
    {"end": {"number": 41, "devices": 7, "audit": 41, "sha256": "…"}}

A later line of a device stands for an earlier one. `number` is the change that all of it is as
of, `devices` how many remain, `sha256` that of all bytes above and of "41 7 41". No secret is in
it: a device token is an HMAC with TOKEN_SECRET of what stands here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import Meta

from services.approval.backup.records import KeptDevice, Moment, kept, unsound
from services.approval.domain.audit import AuditEntry  # noqa: TC001 (as above)
from services.approval.domain.fields import ChangeNumber, Count  # noqa: TC001 (msgspec reads them)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from hashlib import _Hash as _Digest

    from services.approval.domain.records import Record, Sighting

FORMAT: Final = 1
MEDIA_TYPE: Final = "application/jsonl"
LINE_LIMIT_BYTES: Final = 1_048_576

Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]


class End(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The last line: what the file holds, and as of which change."""

    number: ChangeNumber
    devices: Count
    audit: Count
    sha256: Sha256


class Line(
    msgspec.Struct, rename="camel", omit_defaults=True, frozen=True, forbid_unknown_fields=True
):
    """One line; exactly one of its fields is there, but for the head's `madeAtMs`."""

    latchkey_backup: int = 0
    made_at_ms: Moment = 0
    device: KeptDevice | None = None
    removed: str = ""
    audit: AuditEntry | None = None
    end: End | None = None


class BrokenBackup(Exception):
    """No backup, not whole, or changed since it was made; the message says which."""


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Line).decode


class Writer:
    """Makes the lines of a backup, and its end; it keeps ids and a digest, not the devices."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._devices: set[str] = set()
        self._audit = 0

    def head(self, now_ms: int) -> bytes:
        """Return the first line."""
        return self._said(Line(latchkey_backup=FORMAT, made_at_ms=now_ms))

    def device(self, device_id: str, record: Record | None, seen: Sighting | None) -> bytes:
        """Return the line of a device: paired, or no more; nothing where it was not before."""
        if record is not None and record.pairing is not None:
            self._devices.add(device_id)
            return self._said(Line(device=kept(record, record.pairing, seen)))
        if device_id not in self._devices:
            return b""
        self._devices.discard(device_id)
        return self._said(Line(removed=device_id))

    def audit(self, entry: AuditEntry) -> bytes:
        """Return the line of an entry of the audit log."""
        self._audit += 1
        return self._said(Line(audit=entry))

    def end(self, number: int) -> bytes:
        """Return the last line: all above is as of this change."""
        counts = (number, len(self._devices), self._audit)
        return self._said(Line(end=End(*counts, _sealed(self._digest, *counts))))

    def _said(self, line: Line) -> bytes:
        said = _encode(line) + b"\n"
        self._digest.update(said)
        return said


@dataclass(slots=True)
class Backup:
    """A backup that was read and is whole."""

    id: str
    """Its digest."""
    made_at_ms: int
    number: int
    devices: dict[str, KeptDevice] = field(default_factory=dict)
    audit: int = 0


def read(lines: Iterable[bytes]) -> Backup:
    """Read a whole backup; raises BrokenBackup."""
    digest, backup = hashlib.sha256(), None
    number = 0
    for number, text in enumerate(lines, 1):
        line = _line(text, number)
        if backup is None:
            if line.latchkey_backup != FORMAT:
                raise BrokenBackup(_unknown(line))
            backup = Backup("", line.made_at_ms, 0)
        elif backup.id:
            message = f"line {number}: something comes after its end"
            raise BrokenBackup(message)
        elif line.end is not None:
            _close(backup, line.end, digest)
        elif line.device is not None:
            _require_sound(line.device, number)
            backup.devices[line.device.device_id] = line.device
        elif line.audit is not None:
            backup.audit += 1
        elif backup.devices.pop(line.removed, None) is None:
            message = f"line {number}: it says nothing that is known"
            raise BrokenBackup(message)
        digest.update(text)
    if backup is None or not backup.id:
        message = f"it ends after {number} lines and is not whole" if number else "it is empty"
        raise BrokenBackup(message)
    return backup


def _close(backup: Backup, end: End, digest: _Digest) -> None:
    if end.sha256 != _sealed(digest, end.number, end.devices, end.audit):
        message = "it was changed since it was made: its digest is another"
        raise BrokenBackup(message)
    if (end.devices, end.audit) != (len(backup.devices), backup.audit):
        message = "it does not hold what its end says"
        raise BrokenBackup(message)
    backup.id, backup.number = end.sha256, end.number


def _sealed(digest: _Digest, number: int, devices: int, audit: int) -> str:
    whole = digest.copy()
    whole.update(b"%d %d %d" % (number, devices, audit))
    return whole.hexdigest()


def _line(text: bytes, number: int) -> Line:
    if len(text) > LINE_LIMIT_BYTES:
        message = f"line {number}: longer than any line of a backup"
        raise BrokenBackup(message)
    if not text.endswith(b"\n"):
        message = f"line {number}: cut off"
        raise BrokenBackup(message)
    try:
        return _decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        message = f"line {number}: {error}"
        raise BrokenBackup(message) from None


def _unknown(line: Line) -> str:
    if line.latchkey_backup:
        return f"it has format {line.latchkey_backup}, and this release reads {FORMAT}"
    return "line 1: it is no backup of Latchkey"


def _require_sound(device: KeptDevice, number: int) -> None:
    if why := unsound(device):
        message = f"line {number}: {device.device_id}: {why}"
        raise BrokenBackup(message)
