"""How a drill ends: its exit status, and whether its logs are kept."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from deploy.local.errors import file_problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tools.drills.judging.table import Row

HELD: Final = 0
VIOLATED: Final = 1
MISSING: Final = 2
INTERRUPTED: Final = 130


def exit_of(rows: Iterable[Row], *, broken: bool = False) -> int:
    """Return the exit status; `broken`: a round was not completed."""
    return HELD if not broken and all(row.verdicts and row.held for row in rows) else VIOLATED


def verdict_of(status: int) -> str:
    """Return what an exit status says about the promises."""
    return "every promise held" if status == HELD else "NOT every promise was held"


def run_logged(run: Callable[[Path], int], *, prefix: str, file: Path | None) -> int:
    """Run a drill in a new directory for its logs; return the exit status.

    The logs are removed if every promise held. `file`, for the figures, is opened first, so
    that a wrong path ends the drill before it begins.
    """
    try:
        if file is not None:
            file.open("a").close()
        data = Path(tempfile.mkdtemp(prefix=prefix))
    except OSError as error:
        print(f"Not drilled: {file_problem(error)}.", file=sys.stderr)
        return MISSING
    status = VIOLATED
    try:
        status = run(data)
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        print(f"The drill was aborted: {file_problem(error)}.", file=sys.stderr)
    finally:
        if status == HELD:
            shutil.rmtree(data)
        else:
            print(f"The logs of all processes are in {data}.", file=sys.stderr)
    return status
