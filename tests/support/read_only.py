"""Run a command for which a directory is read-only, even as root."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_MOUNT: Final = (
    'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && cd "$1" && shift && exec "$@"'
)
_NOBODY: Final = "65534"


def read_only(directory: Path, command: Sequence[str], *, cwd: Path) -> list[str]:
    """Return the command to run; only it sees the directory as read-only."""
    if os.geteuid() != 0:
        directory.chmod(0o555)
        return [*command]
    if _works("unshare", "--mount", "true"):
        return ["unshare", "--mount", "/bin/sh", "-c", _MOUNT, str(directory), str(cwd), *command]
    assert _works("setpriv", "--reuid", _NOBODY, "true"), "root here can give up no right to write"
    return ["setpriv", "--reuid", _NOBODY, "--clear-groups", *command]


def _works(*command: str) -> bool:
    found = shutil.which(command[0])
    return found is not None and subprocess.run([found, *command[1:]], check=False).returncode == 0
