"""What can go wrong at the start. Each message is for the person at the terminal.

RunError
├── AlreadyRunning      another run has the same data directory
├── BadSetting          settings of the runner itself make no sense
├── PortUnusable        somebody else listens there, or we may not
├── SecretsFileBroken   a line that is not NAME=value
├── RedisMissing        no redis-server here, and none that could be fetched
├── RedisSilent         nobody answers where REDIS_URL says
├── RedisTooOld         the data was written by a newer Redis than the one found
├── FilesUnusable       a file or directory of the run cannot be read or written
├── DashboardNotFetched OpenClaw's dashboard could not be fetched or unpacked
├── ChildDied           a program ended that should have stayed
├── SettingsRefused     programs ended because of their settings
└── NotReady            a program runs but did not become ready in time
"""

from __future__ import annotations

import errno
import signal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LOG_LINES_SHOWN: Final = 15
_FILE_REASONS: Final = {
    errno.EEXIST: "is a file, and a directory is needed there",
    errno.ENOTDIR: "lies below a file, and a directory is needed there",
    errno.EISDIR: "is a directory, and a file is needed there",
    errno.EROFS: "cannot be written (read-only file system)",
    errno.EACCES: "cannot be used (permission denied)",
    errno.EPERM: "cannot be used (operation not permitted)",
    errno.ENOSPC: "cannot be written (no space left on the device)",
    errno.ENOENT: "is not there",
}


class RunError(Exception):
    """Why the run cannot start or go on, and what to do about it."""


class AlreadyRunning(RunError):
    """Another run has the same data directory."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(
            f"Latchkey already runs on {data_dir}: end that run first, "
            "or set DATA_DIR to another directory."
        )
        self.data_dir = data_dir


class BadSetting(RunError):
    """Settings of the runner itself make no sense: a line for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class PortUnusable(RunError):
    """A port we need cannot be had."""

    def __init__(self, setting: str, port: int, reason: str) -> None:
        super().__init__(
            f"Port {port} on 127.0.0.1 cannot be used ({reason}): end what listens there, "
            f"or choose another port with {setting}=<port> make run."
        )
        self.setting = setting
        self.port = port


class SecretsFileBroken(RunError):
    """A line of the secrets file is not NAME=value."""

    def __init__(self, path: Path, line: int) -> None:
        super().__init__(f"{path}, line {line}: must be NAME=value; mend or remove the line.")
        self.path = path
        self.line = line


class FilesUnusable(RunError):
    """A file or directory of the run cannot be read or written."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"{file_problem(error)}: mend that, or set DATA_DIR to another directory.")


class DashboardNotFetched(RunError):
    """OpenClaw's dashboard could not be fetched or unpacked."""


class RedisMissing(RunError):
    """No redis-server of a usable version is here, and none could be fetched."""

    def __init__(self, reason: str, command: str) -> None:
        super().__init__(
            f"Latchkey needs a redis-server, 6.2 or newer ({reason}). Install one with:\n"
            f"  {command}\n"
            "or name one that runs with REDIS_URL=redis://…"
        )
        self.reason = reason
        self.command = command


class RedisSilent(RunError):
    """Nobody answers where REDIS_URL says; `address` holds no password."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            f"REDIS_URL={address}: nobody answers there ({reason}). Start that Redis, "
            "or leave REDIS_URL unset to have one started here."
        )
        self.address = address


class RedisTooOld(RunError):
    """The data was written by a newer Redis than the one found."""

    def __init__(self, directory: Path, version: tuple[int, int]) -> None:
        super().__init__(
            f"{directory} was written by Redis 7 or newer, and the redis-server found here is "
            f"{version[0]}.{version[1]}, which would start empty: install Redis 7 or newer, "
            "or set DATA_DIR to another directory."
        )
        self.version = version


class ChildDied(RunError):
    """A program ended that should have stayed. `status` is negative for a signal."""

    def __init__(self, name: str, status: int, log: Path) -> None:
        how = (
            f"was ended by {signal.Signals(-status).name}"
            if status < 0
            else f"ended with exit status {status}"
        )
        super().__init__(f"{name} {how}. {_tail_of(log)}")
        self.name = name
        self.status = status
        self.log = log


class SettingsRefused(RunError):
    """Programs ended because of their settings, each for reasons of its own."""

    def __init__(self, deaths: Sequence[ChildDied]) -> None:
        super().__init__("\n\n".join(map(str, deaths)))
        self.deaths = tuple(deaths)


class NotReady(RunError):
    """A program runs but did not become ready in time; `reason` is the last it said."""

    def __init__(self, name: str, seconds: float, reason: str, log: Path) -> None:
        super().__init__(
            f"{name} did not become ready within {seconds:.0f} s ({reason}). {_tail_of(log)}"
        )
        self.name = name
        self.reason = reason
        self.log = log


def file_problem(error: OSError) -> str:
    """Return which file is unusable and why, as the beginning of a sentence."""
    reason = _FILE_REASONS.get(error.errno or 0)
    name = error.filename2 or error.filename  # of a renamed file, the new name
    if name is None:
        return error.strerror or str(error)
    return f"{name} {reason or f'cannot be used ({error.strerror})'}"


def _tail_of(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
    except OSError:
        lines = []
    if not lines:
        return f"Its log, {log}, is empty."
    return "\n".join([f"The end of its log, {log}:", *(f"  {line}" for line in lines)])
