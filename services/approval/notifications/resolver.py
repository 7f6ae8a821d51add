"""Resolves the hosts of targets, and refuses private addresses.

The check is made where connections get their addresses from, so that a name cannot resolve to one
address for the check and to another for the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any

from aiohttp.abc import AbstractResolver, ResolveResult

from services.approval.notifications.addresses import is_public

if TYPE_CHECKING:
    from collections.abc import Callable

Found = list[tuple[Any, ...]]


class PrivateAddress(OSError):
    """A host has an address that is not public."""


class CheckedResolver(AbstractResolver):
    """Resolves names in threads of its own, so that a slow name server delays nothing else.

    At most one lookup per name is in progress. All addresses of a name must be public, unless
    private ones are allowed.
    """

    def __init__(
        self,
        *,
        private_addresses: bool,
        lookup: Callable[[str, int], Found] | None = None,
    ) -> None:
        self._private = private_addresses
        self._lookup = lookup or _lookup
        self._running: dict[tuple[str, int], asyncio.Future[Found]] = {}

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,
    ) -> list[ResolveResult]:
        """Return the addresses of a host; raises PrivateAddress or another OSError."""
        found = await asyncio.shield(self._look_up(host, port))
        results = [
            ResolveResult(
                hostname=host,
                host=address[0],
                port=port,
                family=kind,
                proto=proto,
                flags=socket.AI_NUMERICHOST,
            )
            for kind, _type, proto, _name, address in found
            if family in {socket.AF_UNSPEC, kind}
        ]
        if not self._private and not all(is_public(str(one["host"])) for one in results):
            message = "a private address"
            raise PrivateAddress(message)
        if not results:
            message = "no address"
            raise OSError(message)
        return results

    async def close(self) -> None:
        """Do nothing: lookups in progress end by themselves."""

    def _look_up(self, host: str, port: int) -> asyncio.Future[Found]:
        running = self._running.get((host, port))
        if running is not None:
            return running
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Found] = loop.create_future()
        self._running[host, port] = future

        def finish(found: Found | OSError) -> None:
            del self._running[host, port]
            if isinstance(found, OSError):
                future.set_exception(found)
                future.exception()  # it may be that nobody waits any more
            else:
                future.set_result(found)

        def work() -> None:
            found: Found | OSError
            try:
                found = self._lookup(host, port)
            except Exception as error:  # noqa: BLE001 (whatever it is, the lookup has ended)
                found = error if isinstance(error, OSError) else OSError("not a host name")
            with contextlib.suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(finish, found)

        threading.Thread(target=work, name="webhook-lookup", daemon=True).start()
        return future


def _lookup(host: str, port: int) -> Found:
    return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
