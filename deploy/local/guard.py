"""Waits for the process that started it to be gone, then ends whatever that one left running.

Reads `+<process group>` and `-<process group>` lines from a pipe. The pipe ends when its last
writer does, however that came about: also when the runner was killed and could do nothing more.
A script of its own, so that it shares no fate with the runner: own session, no imports.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys


def main() -> None:
    """Read the pipe to its end and kill the groups that are then left."""
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
