"""The command line that runs `latchkey` from here, for hints to paste into a shell."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME: Final = "latchkey"
CALLED_AS: Final = "LATCHKEY_COMMAND"
"""Set by the launcher to the name under which it was called."""
LAUNCHER: Final = Path(__file__).resolve().parents[1] / "bin" / NAME


def latchkey(environ: Mapping[str, str] | None = None, launcher: Path = LAUNCHER) -> str:
    """Return the name if PATH finds it, else the launcher's name or path."""
    environ = os.environ if environ is None else environ
    found = shutil.which(NAME, path=environ.get("PATH", ""))
    if found is not None and (Path(found).resolve() == launcher or not launcher.exists()):
        return NAME
    if called := environ.get(CALLED_AS, ""):
        return shlex.quote(called)
    if launcher.is_relative_to(here := Path.cwd()):
        return shlex.quote(str(launcher.relative_to(here)))
    return shlex.quote(str(launcher))
