"""Ports on 127.0.0.1, reserved without a gap in which another program could take them."""

from __future__ import annotations

import errno
import socket
import sys
from typing import TYPE_CHECKING, Final, Self

from deploy.local.errors import PortUnusable

if TYPE_CHECKING:
    from types import TracebackType

HOST: Final = "127.0.0.1"
SHARES_PORTS: Final = sys.platform == "linux"
"""Whether the system distributes connections over processes that share a port (SO_REUSEPORT)."""
_HOLDS: Final = sys.platform == "linux"


class Reservation:
    """A port reserved for a program; port 0 picks a free one. Raises PortUnusable.

    On Linux the port stays reserved until `release`, even while the program restarts: a bound but
    not listening socket prevents other programs from getting the port, but not a listener with
    SO_REUSEADDR, which servers set. If the port is `shared`, only listeners with SO_REUSEPORT get
    it, any number of them. On other systems it would prevent those too, so there the port is only
    checked.
    """

    def __init__(self, port: int = 0, *, setting: str = "a port", shared: bool = False) -> None:
        self._holder = _bind(port, setting)
        self.port: Final[int] = self._holder.getsockname()[1]
        if not _HOLDS:
            self._holder.close()
        elif shared:
            # SO_REUSEADDR was needed to bind in spite of old connections. Without it, another
            # reservation is refused even before anything listens.
            self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
            self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)

    def release(self) -> None:
        """Release the port."""
        self._holder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def _bind(port: int, setting: str) -> socket.socket:
    holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        holder.bind((HOST, port))
    except OSError as error:
        holder.close()
        in_use = error.errno == errno.EADDRINUSE
        raise PortUnusable(setting, port, "already in use" if in_use else str(error)) from error
    return holder
