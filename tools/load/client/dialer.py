"""Opens connections from chosen source addresses, with TCP or TLS (uvloop)."""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
import ssl
import sys
from itertools import cycle
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tools.load.client.session import Session
    from tools.load.client.target import Target

_BIND_ADDRESS_NO_PORT: Final = 24
"""Linux: choose the port at connect, when the peer is known; then ports do not run out."""
PER_NETWORK: Final = 250
"""Number of loopback addresses used in each 127.0.n.0/24."""
_UNDER_WAY: Final = frozenset({0, errno.EINPROGRESS})


class Unreachable(Exception):
    """The target's name cannot be resolved, or a source address is not local."""


def loopback_sources(count: int) -> list[str]:
    """Return 127.0.0.1 to 127.0.0.250, 127.0.1.1, … Raises Unreachable if they are not available."""
    addresses = [
        f"127.0.{number // PER_NETWORK}.{1 + number % PER_NETWORK}" for number in range(count)
    ]
    with socket.socket() as sock:
        try:
            sock.bind((addresses[-1], 0))
        except OSError as error:
            raise Unreachable(
                f"{count} source addresses: {addresses[-1]} is not one of this machine's. "
                "On macOS: sudo ifconfig lo0 alias ADDRESS for each, or --sources 1"
            ) from error
    return addresses


def has_sources(count: int) -> bool:
    """Return whether so many loopback addresses are available; macOS has one."""
    try:
        loopback_sources(count)
    except Unreachable:
        return False
    return True


def raise_descriptor_limit() -> int:
    """Raise this process's limit of open files to the maximum; returns it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = 1 << 20
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class Dialer:
    """Opens connections to one target, from each source address in turn."""

    def __init__(self, target: Target, sources: list[str], first: int = 0) -> None:
        self._target = target
        self._loop = asyncio.get_running_loop()
        self._tls = ssl.create_default_context() if target.tls else None
        turned = (
            sources[first % len(sources) :] + sources[: first % len(sources)] if sources else []
        )
        self._sources: Iterator[str] | None = cycle(turned) if turned else None
        self._addresses: Iterator[tuple[socket.AddressFamily, tuple[object, ...]]] = iter(())
        self._connects_at_once = target.is_loopback and not target.tls

    async def prepare(self) -> None:
        """Look up the target's addresses once. Raises Unreachable."""
        try:
            found = await self._loop.getaddrinfo(
                self._target.host,
                self._target.port,
                family=socket.AF_INET if self._sources else 0,
                type=socket.SOCK_STREAM,
            )
        except socket.gaierror as error:
            raise Unreachable(f"{self._target.host}: {error.strerror}") from error
        self._addresses = cycle([(family, address) for family, _, _, _, address in found])

    def dial(self, session: Session) -> None:
        """Open a connection for a session, which is notified of the result."""
        family, address = next(self._addresses)
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            self._loop.call_soon(session.not_opened, _describe(error))
            return
        sock.setblocking(False)
        try:
            if self._sources is not None:
                if sys.platform == "linux":
                    sock.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
                sock.bind((next(self._sources), 0))
            started = sock.connect_ex(address) if self._connects_at_once else 0
        except OSError as error:
            started = error.errno or 1
        if started not in _UNDER_WAY:
            sock.close()
            self._loop.call_soon(session.not_opened, _describe(OSError(started, "")))
            return
        task = self._loop.create_task(self._open(session, sock, address))
        session.opening = task
        task.add_done_callback(lambda done: _opened(done, session))

    async def _open(
        self, session: Session, sock: socket.socket, address: tuple[object, ...]
    ) -> None:
        if not self._connects_at_once:
            try:
                await self._loop.sock_connect(sock, address)
            except BaseException:
                sock.close()
                raise
        try:
            await self._loop.create_connection(
                lambda: session,
                sock=sock,
                ssl=self._tls,
                server_hostname=self._target.host if self._tls else None,
            )
        finally:
            # From here on uvloop closes the descriptor, also after a failure. A socket object that
            # closed it again would close another connection's descriptor.
            sock.detach()


def _opened(task: asyncio.Task[None], session: Session) -> None:
    session.opening = None
    if task.cancelled():
        session.not_opened("cancelled")
    elif error := task.exception():
        session.not_opened(_describe(error))


def _describe(error: BaseException) -> str:
    """Return a short, constant name for an error, because errors are counted by name."""
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or type(error).__name__}"
    if isinstance(error, OSError) and error.errno:
        return errno.errorcode.get(error.errno, str(error.errno))
    return type(error).__name__
