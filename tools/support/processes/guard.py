"""Wait for the runner to exit, then kill the processes it left running.

Reads `+<process group>` and `-<process group>` lines from a pipe, which closes when the runner
exits for any reason, including SIGKILL. This is a separate script in its own session, so that it
is not affected by whatever ends the runner.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys


def main() -> None:
    """Read the pipe to its end, then kill the remaining groups."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    left: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line.startswith("+"):
            left.add(group)
        else:
            left.discard(group)
    for group in left:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
