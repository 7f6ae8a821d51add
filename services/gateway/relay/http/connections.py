"""Gives requests a connection to the upstream, and ends requests that lose theirs."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from services.gateway.relay.rules.connection_shares import ConnectionShares

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.gateway.relay.rules.connection_shares import Use

CONNECTIONS_LIMIT: Final = 64
"""How many HTTP connections one gateway has to the upstream; more requests wait for one."""
WAIT_SECONDS: Final = 10.0
"""How long a request waits for a connection."""
_SETTLE_SECONDS: Final = 0.25


class NoConnectionFree(Exception):
    """No connection became free in time."""


class Displaced(Exception):
    """The request lost its connection to one of another address."""


class UpstreamConnections:
    """The HTTP connections to the upstream."""

    def __init__(
        self, *, limit: int = CONNECTIONS_LIMIT, wait_seconds: float = WAIT_SECONDS
    ) -> None:
        self._shares = ConnectionShares(limit)
        self._wait_seconds = wait_seconds
        self._turns: dict[Use, asyncio.Future[None]] = {}
        self._scopes: dict[Use, asyncio.Timeout] = {}
        self._settles_later = False

    @asynccontextmanager
    async def use(self, key: str) -> AsyncIterator[None]:
        """Use a connection for a request of this address.

        Raises NoConnectionFree while it waits, or Displaced afterwards.
        """
        use = self._shares.enter(key)
        turn = self._turns[use] = asyncio.get_running_loop().create_future()
        scope = self._scopes[use] = asyncio.timeout(self._wait_seconds)
        waits = True
        try:
            async with scope:
                self._settle()
                await turn
                waits = False
                scope.reschedule(None)
                yield
        except TimeoutError:
            if not scope.expired():
                raise
            raise NoConnectionFree if waits else Displaced from None
        finally:
            del self._turns[use], self._scopes[use]
            self._shares.leave(use)
            self._settle()

    def _settle(self) -> None:
        loop = asyncio.get_running_loop()
        started, displaced = self._shares.settle(loop.time())
        for use in displaced:
            self._scopes[use].reschedule(loop.time())
        for use in started:
            if not self._turns[use].done():  # it may have been cancelled in this turn of the loop
                self._turns[use].set_result(None)
        if self._shares.is_waiting and not self._settles_later:
            self._settles_later = True
            loop.call_later(_SETTLE_SECONDS, self._settle_again)

    def _settle_again(self) -> None:
        self._settles_later = False
        self._settle()
