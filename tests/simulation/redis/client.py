"""The part of redis-py's client that the store uses, over a simulated connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import ConnectionError as LostError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as LateError

from services.approval.app import STORE_TIMEOUT_SECONDS
from services.approval.storage.changes.transaction_log import commit_script
from services.approval.storage.redis import load_script
from tests.simulation.redis import commands
from tests.simulation.redis.database import to_bytes

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from tests.simulation.engine.network import Line
    from tests.simulation.engine.world import Process
    from tests.simulation.redis.commands import Ask
    from tests.simulation.redis.database import Word
    from tests.simulation.redis.server import Server

_SCRIPTS: Final = {
    **{
        load_script(f"{name}.lua", with_history=True): name
        for name in ("heartbeat", "repair", "check")
    },
    commit_script(): "commit",
    **{load_script(f"{name}.lua"): name for name in ("lockout", "refusals")},
}


class RedisClient:
    """Sends each call over the connection, and times out like the real client.

    Its methods are the functions of `commands`.
    """

    def __init__(self, process: Process, line: Line) -> None:
        self._process = process
        self._line = line

    def __getattr__(self, name: str) -> Callable[..., Any]:
        command = getattr(commands, name)
        return lambda *args, **options: self.call(command(*args, **options))

    async def call(self, ask: Ask) -> Any:
        """Run something at the server; its exceptions are returned. A reply may be lost."""
        answer: asyncio.Future[Any] = self._process.loop.create_future()
        self._line.up.carry(self._arrived, self._line.server, ask, answer)
        late = self._process.loop.call_later(STORE_TIMEOUT_SECONDS, _give_up, answer)
        try:
            return await answer
        finally:
            late.cancel()

    def register_script(self, text: str) -> Script:
        """Return a script by its text; raises KeyError for one that is not modelled here."""
        return Script(self, _SCRIPTS[text])

    def pipeline(self, *, transaction: bool) -> Pipeline:
        """Return a pipeline, without a transaction."""
        assert not transaction
        return Pipeline(self)

    def _arrived(self, server: Server, ask: Ask, answer: asyncio.Future[Any]) -> None:
        result = problem = None
        try:
            if not server.up:
                message = "Connection refused"
                raise LostError(message)
            result = ask(server)
        except RedisError as error:
            problem = error
        self._line.down.carry(self._process.receive, _settle, answer, result, problem)


class Script:
    """A registered script."""

    def __init__(self, client: RedisClient, name: str) -> None:
        self._client = client
        self._name = name

    async def __call__(
        self, keys: Sequence[str], args: Sequence[Word], client: Pipeline | None = None
    ) -> Any:
        """Run it, now or with a pipeline."""
        given = [to_bytes(word) for word in args]

        def ask(server: Server) -> Any:
            return server.script(self._name, keys, given)

        if client is not None:
            client.queue.append(ask)
            return None
        return await self._client.call(ask)


class Pipeline:
    """Commands that travel together; its methods are the functions of `commands`."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self.queue: list[Ask] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        command = getattr(commands, name)
        return lambda *args, **options: self.queue.append(command(*args, **options))

    async def execute(self, *, raise_on_error: bool = True) -> list[Any]:
        """Run all commands in order, then raise the first error."""

        def ask(server: Server) -> list[Any]:
            results: list[Any] = []
            for command in self.queue:
                try:
                    results.append(command(server))
                except RedisError as error:
                    results.append(error)
            return results

        results = list(await self._client.call(ask))
        for result in results:
            if isinstance(result, RedisError) and raise_on_error:
                raise result
        return results


def _give_up(answer: asyncio.Future[Any]) -> None:
    _settle(answer, None, LateError("Timeout reading from the simulated Redis"))


def _settle(answer: asyncio.Future[Any], result: Any, problem: Exception | None) -> None:
    if answer.done():
        return
    if problem is not None:
        answer.set_exception(problem)
    else:
        answer.set_result(result)
