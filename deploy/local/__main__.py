"""`make run`: Latchkey on this machine, until Ctrl-C.

With `--check`, it only checks what can be checked before anything is installed or started.
"""

from __future__ import annotations

import os
import signal
import sys

from deploy.local.errors import FilesUnusable, RunError
from deploy.local.run import check, run
from deploy.local.settings import read_settings


def main() -> int:
    """Run until stopped; return the exit status."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)  # until the programs have started
    try:
        try:
            settings = read_settings(os.environ)
            if sys.argv[1:] == ["--check"]:
                check(settings)
            else:
                run(settings, os.environ, _say)
        except OSError as error:
            raise FilesUnusable(error) from error
    except RunError as error:
        print(f"\nLatchkey cannot run: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        _say("Stopped.")
    return 0


def _say(text: str) -> None:
    try:
        print(text, flush=True)
    except OSError:
        # The reader or the terminal is gone; prevent Python from flushing again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
