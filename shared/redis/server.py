"""Connections of redis-py that check what they have reached before anybody uses them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from redis.asyncio import BlockingConnectionPool
from redis.asyncio.connection import Connection, SSLConnection
from redis.exceptions import ConnectionError as LostError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from shared.redis.address import Place
from shared.redis.errors import WrongServer
from shared.redis.sentences import IS_SENTINEL

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable


class Primary(Protocol):
    """Knows which server is the primary."""

    def find(self) -> Awaitable[Place]:
        """Return the primary; raises PrimaryUnknown."""
        ...

    def is_at(self, place: Place) -> bool:
        """Return whether this is still the primary."""
        ...

    @property
    def opening(self) -> set[asyncio.Timeout]:
        """The connections being opened, which a failover ends."""
        ...


class _Checked:
    """Mixin: finds the primary, if asked to, and asks each server for its role.

    `own_name` is set with CLIENT SETNAME if the server permits it.
    """

    host: str
    port: int

    def __init__(
        self, *, primary: Primary | None = None, own_name: str = "", **settings: Any
    ) -> None:
        super().__init__(**settings)
        self._primary = primary
        self._own_name = own_name
        self.released_at = 0.0
        """When it returned to its pool, in the event loop's time."""

    async def connect_check_health(self, *args: Any, **options: Any) -> None:
        """Connect and log in; a failover ends that, because the old primary may hang."""
        connection: Any = self
        connect = super().connect_check_health  # type: ignore[misc]
        if self._primary is None or connection.is_connected:
            await connect(*args, **options)
            return
        try:
            async with asyncio.timeout(None) as scope:
                self._primary.opening.add(scope)
                try:
                    await connect(*args, **options)
                finally:
                    self._primary.opening.discard(scope)
        except TimeoutError:
            await connection.disconnect(nowait=True)
            message = "the primary changed while it was connected"
            raise WrongServer(message) from None

    async def send_packed_command(
        self,
        command: bytes | str | Iterable[bytes],
        check_health: bool = True,  # noqa: FBT001, FBT002  redis-py's
    ) -> None:
        """Write commands within the timeout.

        redis-py uses `asyncio.wait_for`, which until Python 3.12 starts a task for each command and
        loses a cancellation that arrives when this task has just ended: then the caller goes on,
        and whoever waits for its end waits forever.
        """
        connection: Any = self
        if not connection.is_connected:
            await connection.connect_check_health(check_health=False)
        if check_health:
            await connection.check_health()
        encoded = command.encode() if isinstance(command, str) else command
        parts = [encoded] if isinstance(encoded, bytes) else encoded
        try:
            async with asyncio.timeout(connection.socket_timeout):
                connection._writer.writelines(parts)  # noqa: SLF001  as redis-py does
                await connection._writer.drain()  # noqa: SLF001
        except BaseException as error:  # what was sent in part cannot be continued
            await connection.disconnect(nowait=True)
            if isinstance(error, TimeoutError):
                message = "Timeout writing to socket"
                raise RedisTimeoutError(message) from None
            if isinstance(error, OSError):
                message = f"Error while writing to socket: {error}"
                raise LostError(message) from error
            raise

    async def _connect(self) -> None:
        if self._primary is not None:
            self.host, self.port = await self._primary.find()
        await super()._connect()  # type: ignore[misc]

    async def on_connect_check_health(self, check_health: bool = True) -> None:  # noqa: FBT001, FBT002  redis-py's
        """Log in, then check the role."""
        await super().on_connect_check_health(check_health)  # type: ignore[misc]
        if self._own_name:
            with suppress(ResponseError):  # of use to people only; managed services may refuse it
                await self._ask("CLIENT", "SETNAME", self._own_name)
        at = Place(self.host, self.port)
        try:
            role = (await self._ask("ROLE"))[0]
        except ResponseError as error:
            if self._primary is None:  # not permitted: a single server is taken as it is
                return
            message = f"{at} does not tell its role, so it is not used: {error}"
            raise WrongServer(message) from None
        if role == b"sentinel":
            message = f"{at} {IS_SENTINEL}"
            raise WrongServer(message)
        if self._primary is None:
            return
        if role != b"master":
            message = f"{at} is named as the primary but is a replica; it is not used"
            raise WrongServer(message)
        if not self._primary.is_at(at):
            message = f"{at} stopped being the primary while it was connected"
            raise WrongServer(message)

    async def _ask(self, *words: str) -> Any:
        connection: Any = self
        await connection.send_command(*words, check_health=False)
        return await connection.read_response()


class CheckedConnection(_Checked, Connection):
    """A TCP connection."""


class CheckedTLSConnection(_Checked, SSLConnection):
    """A TLS connection."""


class CheckedPool(BlockingConnectionPool):
    """A pool of these connections that uses none after `idle_seconds` without a command."""

    def __init__(self, *, idle_seconds: float, **settings: Any) -> None:
        super().__init__(**settings)
        self._idle_seconds = idle_seconds

    async def ensure_connection(self, connection: Any) -> None:
        """Connect; replace a connection that was idle for too long."""
        if asyncio.get_running_loop().time() - connection.released_at > self._idle_seconds:
            await connection.disconnect(nowait=True)
        await super().ensure_connection(connection)

    async def release(self, connection: Any) -> None:
        """Take a connection back."""
        connection.released_at = asyncio.get_running_loop().time()
        await super().release(connection)
