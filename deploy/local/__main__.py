"""`make run`: Latchkey on this machine, until Ctrl-C."""

from __future__ import annotations

import os
import sys

from deploy.local.errors import FilesUnusable, RunError
from deploy.local.run import run
from deploy.local.settings import read_settings
from deploy.local.stopping import StopRequested, StopSignals


def main() -> int:
    """Run until stopped; return the exit status."""
    signals = StopSignals()
    try:
        try:
            run(read_settings(os.environ), os.environ, signals, _say)
        except OSError as error:
            raise FilesUnusable(error) from error
    except RunError as error:
        print(f"\nLatchkey cannot run: {error}", file=sys.stderr)
        return 1
    except StopRequested:
        pass
    return 0


def _say(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # The reader is gone; prevent Python from flushing again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
