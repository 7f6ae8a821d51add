"""The dashboard's files: listed once at startup, read in chunks."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from shared.settings.environment import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator

FILES_LIMIT: Final = 20_000
DIGEST_CHARACTERS: Final = 32
SIBLINGS: Final = {"br": ".br", "gzip": ".gz"}
"""The file name suffixes of precompressed forms."""
_SETTING: Final = "CONTROL_UI_DIR"


class ChangedSinceStartError(Exception):
    """A file was removed or modified after startup."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One file on disk, as it was at startup."""

    name: Path
    size: int
    identity: tuple[int, int, int, int]
    """Device, inode, size in bytes, modification time in ns."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the dashboard and its precompressed forms."""

    plain: Stored
    digest: str
    """A digest of the content, so that all replicas send the same ETag."""
    coded: dict[str, Stored]


def list_files(directory: Path) -> dict[str, Entry]:
    """Return all files by their path below the directory, such as `/assets/app.js`.

    Symbolic links and names that begin with a dot are skipped. Precompressed forms belong to their
    file and have no path of their own. Raises SettingsError.
    """
    try:
        found = dict(_walk(directory))
        forms = {path + suffix for path in found for suffix in SIBLINGS.values()}
        return {
            path: Entry(
                stored,
                _digest_of_file(stored.name),
                {
                    coding: found[path + suffix]
                    for coding, suffix in SIBLINGS.items()
                    if path + suffix in found
                },
            )
            for path, stored in found.items()
            if path not in forms
        }
    except OSError as error:
        raise SettingsError(
            [f"{_SETTING}: {error.filename} cannot be read ({error.strerror})"]
        ) from error


def _walk(directory: Path) -> Iterator[tuple[str, Stored]]:
    count = 0
    for folder, folders, names in os.walk(directory, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            file = Path(folder, name)
            status = file.lstat()
            if name.startswith(".") or not stat.S_ISREG(status.st_mode):
                continue
            count += 1
            if count > FILES_LIMIT:
                too_many = f"{_SETTING}={directory}: contains more than {FILES_LIMIT} files"
                raise SettingsError([f"{too_many}; use the dashboard's own directory"])
            yield (
                f"/{file.relative_to(directory).as_posix()}",
                Stored(file, status.st_size, _identity(status)),
            )


def _raise(error: OSError) -> None:
    raise error


def digest_of(data: bytes) -> str:
    """Return the digest of some content, for its ETag."""
    return hashlib.sha256(data).hexdigest()[:DIGEST_CHARACTERS]


def _digest_of_file(name: Path) -> str:
    with name.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:DIGEST_CHARACTERS]


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def read_piece(stored: Stored, start: int, size: int) -> bytes:
    """Return up to `size` bytes of a file. Raises ChangedSinceStartError.

    The file is opened for each chunk, so that a slow client does not hold a descriptor.
    """
    try:
        descriptor = os.open(stored.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise ChangedSinceStartError(stored.name) from error
    try:
        if _identity(os.fstat(descriptor)) != stored.identity:
            raise ChangedSinceStartError(stored.name)
        return os.pread(descriptor, size, start)
    finally:
        os.close(descriptor)
