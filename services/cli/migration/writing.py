"""Writes pairing records that OpenClaw reads: into its database, or as a JSON file.

A database is changed only while nothing else has it open, in one transaction, after it was copied.
A device that OpenClaw has paired already is never changed.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from services.cli.errors import ApiError
from services.cli.migration import database
from services.cli.migration.location import PAIRED, Location, locate
from services.cli.migration.reading import json_records
from services.cli.text.words import escaped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from services.approval.backup.records import BackupDevice, BackupToken

COPIES_LIMIT: Final = 100
"""Max. copies of one file with the same time in their names."""
WRITE_SECONDS: Final = 60.0
"""A statement that takes longer is interrupted, and nothing is written."""
TOKEN_BYTES: Final = 32
_JSON: Final = {"roles": "roles_json", "scopes": "scopes_json", "tokens": "tokens_json"}
_COLUMNS: Final = {
    "deviceId": "device_id",
    "publicKey": "public_key",
    "displayName": "display_name",
    "operatorLabel": "operator_label",
    "platform": "platform",
    "deviceFamily": "device_family",
    "clientId": "client_id",
    "clientMode": "client_mode",
    "role": "role",
    "remoteIp": "remote_ip",
    "approvedVia": "approved_via",
    "createdAtMs": "created_at_ms",
    "approvedAtMs": "approved_at_ms",
    "lastSeenAtMs": "last_seen_at_ms",
    "lastSeenReason": "last_seen_reason",
    "approvedScopes": "approved_scopes_json",
    **_JSON,
}


@dataclass(frozen=True, slots=True)
class Target:
    """Where records are written: an existing database, or a JSON file that may not exist yet."""

    file: Path
    is_database: bool


@dataclass(frozen=True, slots=True)
class Written:
    """What was written; `copy` is the file as it was before, if there was one."""

    added: int
    exists: int
    copy: str


def target_of(path: Path) -> Target:
    """Return where to write below a directory, or to a file; raises ApiError."""
    if not path.exists():
        if path.suffix == ".json":
            return Target(path, is_database=False)
        message = f"{escaped(str(path))} does not exist."
        raise ApiError("not-written", message, "Create the directory, or name a .json file.")
    found: Location = locate(path)
    if found.database is not None:
        return Target(found.database, is_database=True)
    if found.paired is not None:
        return Target(found.paired, is_database=False)
    if found.directory is None:
        raise ApiError("not-openclaw", f"{found.shown} is not a file of OpenClaw.")
    return Target(found.directory / PAIRED, is_database=False)


def require_unused(target: Target) -> None:
    """Require that nothing else has the database open; raises ApiError."""
    if target.is_database:
        with _exclusively(target.file):
            pass


def existing_ids(target: Target) -> set[str]:
    """Return the devices that OpenClaw has paired already; raises ApiError."""
    if target.is_database:
        with database.reading(target.file) as connection:
            database.require_known(connection, target.file)
            return _paired_ids(connection)
    return set(json_records(target.file)) if target.file.exists() else set()


def record_of(device: BackupDevice) -> dict[str, Any]:
    """Return OpenClaw's record of a device, with a new token for each role that has one.

    OpenClaw gives it to the device when that connects with the gateway token: Latchkey's own tokens
    are nowhere stored, so they cannot be handed over.
    """
    pairing, about, seen = device.pairing, device.pairing.metadata, device.seen
    texts = {
        "displayName": about.display_name,
        "operatorLabel": pairing.operator_label,
        "platform": about.platform,
        "deviceFamily": about.device_family,
        "clientId": about.client_id,
        "clientMode": about.client_mode,
        "remoteIp": seen.address if seen else about.address,
    }
    return {
        "deviceId": device.device_id,
        "publicKey": device.public_key,
        **{name: text for name, text in texts.items() if text},
        "role": pairing.role,
        "roles": list(pairing.roles),
        "scopes": list(pairing.scopes),
        "approvedScopes": list(pairing.scopes),
        "tokens": {token.role: _token(token) for token in pairing.tokens},
        "approvedVia": pairing.approved_via,
        "createdAtMs": pairing.created_at_ms,
        "approvedAtMs": pairing.approved_at_ms,
        **({"lastSeenAtMs": seen.at_ms, "lastSeenReason": seen.reason} if seen else {}),
    }


def write_records(target: Target, devices: Sequence[BackupDevice]) -> Written:
    """Add the devices that OpenClaw does not have; raises ApiError if nothing was changed."""
    try:
        if target.is_database:
            return _write_database(target.file, devices)
        return _write_json(target.file, devices)
    except OSError as error:
        shown = escaped(str(target.file))
        raise ApiError("not-written", f"cannot write {shown}: {error.strerror}") from error


def _write_database(file: Path, devices: Sequence[BackupDevice]) -> Written:
    with _exclusively(file) as connection:
        database.require_known(connection, file)
        columns = database.columns_of(connection, database.PAIRED_TABLE)
        paired = _paired_ids(connection)
        added = [one for one in devices if one.device_id not in paired]
        if not added:
            return Written(0, len(devices), "")
        copy = _copy_name(file)
        _copy_database(connection, copy)
        try:
            connection.execute("BEGIN EXCLUSIVE")
            for device in added:
                _insert(connection, columns, record_of(device))
            connection.execute("COMMIT")
        except BaseException:
            copy.unlink(missing_ok=True)  # nothing was changed, so it is of no use
            raise
    return Written(len(added), len(devices) - len(added), str(copy))


@contextlib.contextmanager
def _exclusively(file: Path) -> Iterator[sqlite3.Connection]:
    """Open a database that nothing else has open, and keep it locked.

    Every open connection to a database in WAL mode holds a shared lock, so this fails while
    OpenClaw runs.
    """
    database.require_sqlite()
    with database.explained(file):
        connection = sqlite3.connect(
            f"{file.as_uri()}?mode=rw",
            uri=True,
            timeout=database.LOCK_SECONDS,
            isolation_level=None,
        )
        try:
            database.limit_statements(connection, time.monotonic() + WRITE_SECONDS)
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            # In this locking mode the lock outlives the transaction that took it, so that the
            # database can be copied, which is impossible in a transaction that writes.
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("COMMIT")
            yield connection
        finally:
            connection.close()


def _copy_database(connection: sqlite3.Connection, copy: Path) -> None:
    """Copy the database, which this connection has locked."""
    os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        with contextlib.closing(sqlite3.connect(copy)) as into:
            connection.backup(into)
    except BaseException:
        copy.unlink(missing_ok=True)
        raise


def _insert(connection: sqlite3.Connection, columns: set[str], record: dict[str, Any]) -> None:
    values = {
        column: msgspec.json.encode(record[name]).decode()
        if column.endswith("_json")
        else record[name]
        for name, column in _COLUMNS.items()
        if name in record and column in columns
    }
    names, marks = ", ".join(values), ", ".join("?" * len(values))
    connection.execute(
        f"INSERT INTO {database.PAIRED_TABLE} ({names}) VALUES ({marks})",  # noqa: S608 (ours)
        list(values.values()),
    )


def _paired_ids(connection: sqlite3.Connection) -> set[str]:
    rows = connection.execute(f"SELECT device_id FROM {database.PAIRED_TABLE}")  # noqa: S608 (ours)
    return {str(row[0]) for row in rows}


def _write_json(file: Path, devices: Sequence[BackupDevice]) -> Written:
    """Replace the file as a whole, readable only by its owner, because it holds tokens."""
    before = json_records(file) if file.exists() else {}
    added = [one for one in devices if one.device_id not in before]
    if not added:
        return Written(0, len(devices), "")
    file.parent.mkdir(mode=0o700, exist_ok=True)
    copy = ""
    if file.exists():
        kept = _copy_name(file)
        _write_new(kept, file.read_bytes())
        copy = str(kept)
    after = {**before, **{one.device_id: record_of(one) for one in added}}
    new = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        _write_new(new, msgspec.json.format(msgspec.json.encode(after)) + b"\n")
        new.replace(file)
    finally:
        new.unlink(missing_ok=True)
    return Written(len(added), len(devices) - len(added), copy)


def _write_new(file: Path, text: bytes) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())


def _copy_name(file: Path) -> Path:
    """Return a name for the copy of a file that does not exist yet."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    for number in range(COPIES_LIMIT):
        more = f"-{number}" if number else ""
        found = file.with_name(f"{file.name}.before-latchkey-{stamp}{more}")
        if not found.exists():
            return found
    raise ApiError("not-written", f"there are too many copies of {escaped(str(file))}.")


def _token(token: BackupToken) -> dict[str, Any]:
    times = {
        "rotatedAtMs": token.rotated_at_ms,
        "revokedAtMs": token.revoked_at_ms,
        "lastUsedAtMs": token.last_used_at_ms,
    }
    return {
        "token": secrets.token_urlsafe(TOKEN_BYTES),
        "role": token.role,
        "scopes": list(token.scopes),
        "createdAtMs": token.created_at_ms,
        **{name: at_ms for name, at_ms in times.items() if at_ms},
    }
