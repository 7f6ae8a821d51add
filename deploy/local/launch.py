"""Replace this process with a program: `launch.py <guard fd> <listening fd or -> <command> …`.

First registers its process id with the guard, so that it cannot be orphaned, and moves the
listening socket to descriptor 3 as LISTEN_FDS and LISTEN_PID require (systemd socket activation).
"""

from __future__ import annotations

import os
import sys
from typing import Final

LISTEN_FDS_START: Final = 3
CANNOT_START: Final = 127


def main() -> None:
    """Register with the guard, place the socket, execute the command."""
    guard, listening, *command = sys.argv[1:]
    os.write(int(guard), f"+{os.getpid()}\n".encode())
    os.close(int(guard))
    if listening != "-":
        descriptor = int(listening)
        if descriptor == LISTEN_FDS_START:
            os.set_inheritable(descriptor, True)
        else:
            os.dup2(descriptor, LISTEN_FDS_START)
            os.close(descriptor)
        os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
    try:
        os.execvp(command[0], command)  # noqa: S606  no shell is wanted
    except OSError as error:
        print(f"{command[0]} cannot be started: {error.strerror}", file=sys.stderr)
        sys.exit(CANNOT_START)


if __name__ == "__main__":
    main()
