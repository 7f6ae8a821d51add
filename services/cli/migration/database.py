"""Reads pairing records from the SQLite database of an OpenClaw release.

The database is opened for reading only, in one transaction. It is not trusted: views in place of
tables, huge values and statements that take too long end in an error.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from services.cli.errors import ApiError
from services.cli.text.words import escaped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KNOWN_SCHEMA: Final = 18
"""Schema of 2026.9.6. A later one may store something that has to be understood."""
NEWEST_KNOWN: Final = "2026.9.6"
PAIRED_TABLE: Final = "device_pairing_paired"
PENDING_TABLE: Final = "device_pairing_pending"
SQLITE_MIN: Final = (3, 37, 0)
"""OpenClaw has STRICT tables."""
LOCK_SECONDS: Final = 2.0
"""How long to wait for a lock that another program holds."""
READ_SECONDS: Final = 30.0
"""A statement that takes longer is interrupted."""
VALUE_LIMIT_BYTES: Final = 1_048_576
"""Max. size of a value in the database."""
_STEPS: Final = 100_000
"""How many steps of SQLite between two looks at the clock."""
_REQUIRED: Final = frozenset(
    {"device_id", "public_key", "role", "roles_json", "scopes_json", "tokens_json"}
    | {"created_at_ms", "approved_at_ms"}
)
_FIELDS: Final = {
    "device_id": "deviceId",
    "public_key": "publicKey",
    "display_name": "displayName",
    "operator_label": "operatorLabel",
    "platform": "platform",
    "device_family": "deviceFamily",
    "client_id": "clientId",
    "client_mode": "clientMode",
    "role": "role",
    "roles_json": "roles",
    "scopes_json": "scopes",
    "approved_scopes_json": "approvedScopes",
    "remote_ip": "remoteIp",
    "tokens_json": "tokens",
    "approved_via": "approvedVia",
    "created_at_ms": "createdAtMs",
    "approved_at_ms": "approvedAtMs",
}
"""Columns, and the names that the JSON files have for the same."""


@contextlib.contextmanager
def reading(file: Path) -> Iterator[sqlite3.Connection]:
    """Open a database for reading, in one transaction; errors become ApiError."""
    require_sqlite()
    deadline = time.monotonic() + READ_SECONDS
    with explained(file):
        connection = sqlite3.connect(
            reading_uri(file), uri=True, timeout=LOCK_SECONDS, isolation_level=None
        )
        try:
            limit_statements(connection, deadline)
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("BEGIN")
            yield connection
        finally:
            connection.close()


def reading_uri(file: Path) -> str:
    """Return the URI to open a database for reading.

    A database in WAL mode needs files beside it even for reading. In a directory that cannot be
    written, such as a volume mounted read-only, it is opened without them if its WAL is empty.
    """
    log = file.with_name(f"{file.name}-wal")
    is_complete = not log.exists() or log.stat().st_size == 0
    unchanging = "&immutable=1" if is_complete and not os.access(file.parent, os.W_OK) else ""
    return f"{file.as_uri()}?mode=ro{unchanging}"


def require_sqlite() -> None:
    """Require an SQLite that knows the kind of tables OpenClaw has; raises ApiError."""
    if sqlite3.sqlite_version_info < SQLITE_MIN:
        needed = ".".join(map(str, SQLITE_MIN))
        raise ApiError(
            "sqlite-too-old",
            f"This Python has SQLite {sqlite3.sqlite_version}; OpenClaw's database needs {needed}.",
        )


def limit_statements(connection: sqlite3.Connection, deadline: float) -> None:
    """Limit the size of values, and interrupt statements after a time of the monotonic clock."""
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, VALUE_LIMIT_BYTES)
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)


@contextlib.contextmanager
def explained(file: Path) -> Iterator[None]:
    """Turn errors of SQLite into an ApiError with one clear sentence."""
    shown = escaped(str(file))
    try:
        yield
    except (sqlite3.Error, OverflowError) as error:
        text = str(error)
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            raise ApiError(
                "openclaw-locked",
                f"{shown} is in use: OpenClaw, or another program, has locked it.",
                "Stop it, and run this again. Nothing was changed.",
            ) from error
        if code == sqlite3.SQLITE_INTERRUPT:
            raise ApiError("openclaw-damaged", f"{shown} takes too long to read.") from error
        if code == sqlite3.SQLITE_CANTOPEN:
            raise ApiError(
                "not-read",
                f"cannot open {shown}: {text}",
                "If its directory is read-only, copy the directory to another place first.",
            ) from error
        raise ApiError("openclaw-damaged", f"{shown} is damaged or incomplete: {text}") from error


def require_known(connection: sqlite3.Connection, file: Path) -> str:
    """Return the release that wrote the database; raises ApiError unless its tables are known."""
    (schema,) = connection.execute("PRAGMA user_version").fetchone()
    release = _release(connection)
    shown = escaped(str(file))
    if schema > KNOWN_SCHEMA:
        raise ApiError(
            "openclaw-unknown",
            f"{shown} was written by an OpenClaw that is newer than {NEWEST_KNOWN}: its schema is "
            f"{schema}, and this Latchkey knows {KNOWN_SCHEMA}.",
        )
    missing = sorted(_REQUIRED - columns_of(connection, PAIRED_TABLE))
    if missing:
        raise ApiError(
            "openclaw-unknown",
            f"{shown} is not the database of an OpenClaw release that this Latchkey knows: "
            f"{PAIRED_TABLE} has no {missing[0]}.",
        )
    return release or f"schema {schema}"


def columns_of(connection: sqlite3.Connection, table: str) -> set[str]:
    """Return the columns of a table; none if there is no such table."""
    kind = connection.execute(
        "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)
    ).fetchone()
    if kind is None:
        return set()
    return {row[0] for row in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))}


def count_rows(connection: sqlite3.Connection, table: str) -> int:
    """Return the number of rows of a table; 0 if there is no such table."""
    if not columns_of(connection, table):
        return 0
    (count,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 (ours)
    return int(count)


def paired_records(connection: sqlite3.Connection) -> Iterator[dict[str, Any]]:
    """Yield paired devices with the names and values of the JSON files."""
    columns = [one for one in _FIELDS if one in columns_of(connection, PAIRED_TABLE)]
    rows = connection.execute(f"SELECT {', '.join(columns)} FROM {PAIRED_TABLE}")  # noqa: S608 (ours)
    for row in rows:
        values = zip(columns, row, strict=True)
        yield {_FIELDS[name]: _value(name, value) for name, value in values if value is not None}


def _value(column: str, value: object) -> object:
    if not column.endswith("_json") or not isinstance(value, str):
        return value
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return value  # refused later, with its device: it is no list and no object


def _release(connection: sqlite3.Connection) -> str:
    if "app_version" not in columns_of(connection, "schema_meta"):
        return ""
    found = connection.execute(
        "SELECT app_version FROM schema_meta WHERE meta_key = 'primary'"
    ).fetchone()
    return str(found[0]) if found and isinstance(found[0], str) else ""
