"""Becomes another program: `launch.py <guard fd> <listening fd or -> <command> …`.

Before that it does what can only be done in the new process: tells the guard its number, so that
there is no moment in which it could be left behind, and puts a listening socket where LISTEN_FDS
says it is (descriptor 3, for the process LISTEN_PID, as systemd hands over sockets).
"""

from __future__ import annotations

import os
import sys
from typing import Final

LISTEN_FDS_START: Final = 3
CANNOT_START: Final = 127


def main() -> None:
    """Tell the guard, place the socket, become the command."""
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
