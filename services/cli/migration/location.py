"""Finds OpenClaw's pairing records in a state directory, or in the one file that was named.

Releases since 2026.9 keep them in an SQLite database, `state/openclaw.sqlite`; earlier ones in
`devices/paired.json` and `devices/pending.json`.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from services.cli.errors import ApiError
from services.cli.text.words import escaped

if TYPE_CHECKING:
    from pathlib import Path

DATABASE: Final = "state/openclaw.sqlite"
PAIRED: Final = "devices/paired.json"
PENDING: Final = "devices/pending.json"
_SQLITE_HEADER: Final = b"SQLite format 3\0"


@dataclass(frozen=True, slots=True)
class Location:
    """Where pairing records are; a file that does not exist is None.

    `name` is the path that the operator gave.
    """

    name: str
    directory: Path | None
    database: Path | None = None
    paired: Path | None = None
    pending: Path | None = None

    @property
    def shown(self) -> str:
        """The path as it is shown."""
        return escaped(self.name)


def locate(path: Path) -> Location:
    """Find the records below a directory, or in a file; raises ApiError."""
    found = _existing(path)
    if found is None:
        raise ApiError("not-read", f"{escaped(str(path))} does not exist.")
    if found.is_dir():
        return _in_directory(path, found)
    if is_database(found):
        return Location(str(path), None, database=found)
    return Location(str(path), None, paired=found, pending=_file(found.parent / "pending.json"))


def is_database(file: Path) -> bool:
    """Return whether a file is an SQLite database; raises ApiError."""
    try:
        with file.open("rb") as opened:
            return opened.read(len(_SQLITE_HEADER)) == _SQLITE_HEADER
    except OSError as error:
        raise not_read(file, error) from error


def not_read(path: Path, error: OSError) -> ApiError:
    """Return the error for a file or directory that cannot be read."""
    return ApiError("not-read", f"cannot read {escaped(str(path))}: {error.strerror or error}")


def _in_directory(path: Path, directory: Path) -> Location:
    return Location(
        str(path),
        directory,
        database=_file(directory / DATABASE) or _file(directory / "openclaw.sqlite"),
        paired=_file(directory / PAIRED) or _file(directory / "paired.json"),
        pending=_file(directory / PENDING) or _file(directory / "pending.json"),
    )


def _file(path: Path) -> Path | None:
    """Return a regular file with its links resolved, or None if there is nothing."""
    found = _existing(path)
    if found is not None and found.is_dir():
        raise ApiError("not-openclaw", f"{escaped(str(path))} is a directory, not a file.")
    return found


def _existing(path: Path) -> Path | None:
    """Resolve a path to a regular file or a directory; None if it does not exist."""
    try:
        found = path.resolve()  # raises RuntimeError for a loop of symbolic links
        mode = found.stat().st_mode
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        return None
    except RuntimeError as error:
        message = f"cannot read {escaped(str(path))}: its symbolic links form a loop"
        raise ApiError("not-read", message) from error
    except OSError as error:
        raise not_read(path, error) from error
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise ApiError("not-openclaw", f"{escaped(str(path))} is neither a file nor a directory.")
    return found
