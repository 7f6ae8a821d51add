"""Errors of `make run`, with messages for the terminal.

RunError
├── AlreadyRunning      another run uses the same data directory
├── BadSetting          invalid settings of the runner itself
├── PortUnusable        a port is in use or not permitted
├── SecretsFileBroken   a line is not NAME=value
├── RedisMissing        no redis-server found, and none could be fetched
├── RedisSilent         no response at REDIS_URL
├── RedisTooOld         the data was written by a newer Redis than the one found
├── FilesUnusable       a file or directory of the run cannot be read or written
├── DashboardNotFetched OpenClaw's dashboard could not be fetched or unpacked
├── ChildDied           a program exited unexpectedly
├── SettingsRefused     programs exited because of their settings
└── NotReady            a program did not become ready in time
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
    errno.EEXIST: "is a file, but must be a directory",
    errno.ENOTDIR: "is below a file, which must be a directory",
    errno.EISDIR: "is a directory, but must be a file",
    errno.EROFS: "cannot be written (read-only file system)",
    errno.EACCES: "cannot be accessed (permission denied)",
    errno.EPERM: "cannot be accessed (operation not permitted)",
    errno.ENOSPC: "cannot be written (no space left on the device)",
    errno.ENOENT: "does not exist",
}


class RunError(Exception):
    """Base class: why the run cannot start or continue, and what to do."""


class AlreadyRunning(RunError):
    """Another run uses the same data directory."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(
            f"Latchkey already runs with {data_dir}: stop that run, "
            "or set DATA_DIR to another directory."
        )
        self.data_dir = data_dir


class BadSetting(RunError):
    """Invalid settings of the runner itself, one line each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class PortUnusable(RunError):
    """A port cannot be used."""

    def __init__(self, setting: str, port: int, reason: str) -> None:
        super().__init__(
            f"Port {port} on 127.0.0.1 cannot be used ({reason}): stop the program that uses it, "
            f"or choose another port: {setting}=<port> make run."
        )
        self.setting = setting
        self.port = port


class SecretsFileBroken(RunError):
    """A line of the secrets file is not NAME=value."""

    def __init__(self, path: Path, line: int) -> None:
        super().__init__(f"{path}, line {line}: must be NAME=value. Correct or remove the line.")
        self.path = path
        self.line = line


class FilesUnusable(RunError):
    """A file or directory of the run cannot be read or written."""

    def __init__(self, error: OSError) -> None:
        super().__init__(
            f"{file_problem(error)}: correct this, or set DATA_DIR to another directory."
        )


class DashboardNotFetched(RunError):
    """OpenClaw's dashboard could not be fetched or unpacked."""


class RedisMissing(RunError):
    """No suitable redis-server was found, and none could be fetched."""

    def __init__(self, reason: str, command: str) -> None:
        super().__init__(
            f"Latchkey needs redis-server 6.2 or newer ({reason}). Install it with:\n"
            f"  {command}\n"
            "or set REDIS_URL=redis://… to use a running Redis."
        )
        self.reason = reason
        self.command = command


class RedisSilent(RunError):
    """No response at REDIS_URL; `address` contains no password."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            f"REDIS_URL={address}: no response ({reason}). Start that Redis, "
            "or unset REDIS_URL to start one on this machine."
        )
        self.address = address


class RedisTooOld(RunError):
    """The data was written by a newer Redis than the one found."""

    def __init__(self, directory: Path, version: tuple[int, int]) -> None:
        super().__init__(
            f"{directory} was written by Redis 7 or newer, but the redis-server found is "
            f"{version[0]}.{version[1]}, which would start empty: install Redis 7 or newer, "
            "or set DATA_DIR to another directory."
        )
        self.version = version


class OpenClawUnusable(RunError):
    """OpenClaw cannot be configured or started; the problem says why."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"OpenClaw cannot run: {problem}")


class ChildDied(RunError):
    """A program exited unexpectedly. `status` is negative for a signal."""

    def __init__(self, name: str, status: int, log: Path) -> None:
        how = (
            f"was terminated by {signal.Signals(-status).name}"
            if status < 0
            else f"exited with status {status}"
        )
        super().__init__(f"{name} {how}. {_tail_of(log)}")
        self.name = name
        self.status = status
        self.log = log


class SettingsRefused(RunError):
    """Programs that exited because of their settings."""

    def __init__(self, deaths: Sequence[ChildDied]) -> None:
        super().__init__("\n\n".join(map(str, deaths)))
        self.deaths = tuple(deaths)


class NotReady(RunError):
    """A program did not become ready in time; `reason` is its last answer."""

    def __init__(self, name: str, seconds: float, reason: str, log: Path) -> None:
        super().__init__(
            f"{name} did not become ready within {seconds:.0f} s ({reason}). {_tail_of(log)}"
        )
        self.name = name
        self.reason = reason
        self.log = log


def file_problem(error: OSError) -> str:
    """Return which file is unusable and why, as the start of a sentence."""
    reason = _FILE_REASONS.get(error.errno or 0)
    name = error.filename2 or error.filename  # of a renamed file, the new name
    if name is None:
        return error.strerror or str(error)
    return f"{name} {reason or f'cannot be accessed ({error.strerror})'}"


def _tail_of(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
    except OSError:
        lines = []
    if not lines:
        return f"Its log, {log}, is empty."
    return "\n".join([f"The end of its log, {log}:", *(f"  {line}" for line in lines)])
