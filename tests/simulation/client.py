"""The part of redis-py's client that the store uses, over a simulated line to a simulated server."""

from __future__ import annotations

import asyncio
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import ConnectionError as LostError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as LateError

from services.approval.app import STORE_TIMEOUT_SECONDS
from tests.simulation.database import to_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.simulation.database import Database, Entry, Word
    from tests.simulation.network import Line
    from tests.simulation.server import Server
    from tests.simulation.world import Process

    Ask = Callable[[Server], Any]

_SCRIPTS: Final = {
    files("services.approval").joinpath(f"{name}.lua").read_text(): name
    for name in ("commit", "beat", "lockout")
}


class RedisClient:
    """Sends each call over the line, and waits for the reply no longer than the real one does."""

    def __init__(self, process: Process, line: Line) -> None:
        self._process = process
        self.line = line

    async def call(self, ask: Ask) -> Any:
        """Have the server do something; what it raises comes back. A reply may be lost."""
        answer: asyncio.Future[Any] = self._process.loop.create_future()
        self.line.up.carry(self._arrived, self.line.server, ask, answer)
        try:
            async with asyncio.timeout(STORE_TIMEOUT_SECONDS):
                return await answer
        except TimeoutError:
            message = "Timeout reading from the simulated Redis"
            raise LateError(message) from None

    def _arrived(self, server: Server, ask: Ask, answer: asyncio.Future[Any]) -> None:
        if not server.up:
            error: Any = LostError("Connection refused")
            self.line.down.carry(self._process.receive, _settle, answer, None, error)
            return
        result = problem = None
        try:
            result = ask(server)
        except RedisError as error:
            problem = error
        self.line.down.carry(self._process.receive, _settle, answer, result, problem)

    def register_script(self, text: str) -> Script:
        """Return a script that is known by its text; KeyError for one that was not rebuilt here."""
        return Script(self, _SCRIPTS[text])

    def pipeline(self, *, transaction: bool) -> Pipeline:
        """Return a pipeline; each command in it stands for itself."""
        assert not transaction
        return Pipeline(self)

    async def info(self, _section: str) -> dict[str, Any]:
        """Say that all is well."""
        return dict(await self.call(lambda _server: {"aof_enabled": 1, "connected_slaves": 0}))

    async def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        """Read texts."""
        return list(await self.call(lambda s: s.read(lambda d: [d.texts.get(k) for k in keys])))

    async def get(self, key: str) -> bytes | None:
        """Read a text."""
        return (await self.mget([key]))[0]

    async def zrange(self, key: str, first: int, last: int, *, desc: bool = False) -> list[bytes]:
        """Read members by rank; the last rank counts, negative ones from the end."""

        def look(data: Database) -> list[bytes]:
            members = [member.encode() for _score, member in data.ranked(key)]
            if desc:
                members.reverse()
            return members[first : None if last == -1 else last + 1]

        return list(await self.call(lambda server: server.read(look)))

    async def zrangebyscore(
        self, key: str, least: str, most: float, *, start: int, num: int
    ) -> list[bytes]:
        """Read members up to a score."""
        assert least == "-inf"

        def look(data: Database) -> list[bytes]:
            found = [member.encode() for score, member in data.ranked(key) if score <= most]
            return found[start : start + num]

        return list(await self.call(lambda server: server.read(look)))

    async def xrange(
        self, key: str, *, min: str = "-", max: str = "+", count: int | None = None  # noqa: A002
    ) -> list[tuple[bytes, dict[bytes, bytes]]]:
        """Read a stream above a number, `(n-0`, or from its beginning."""
        assert max == "+"
        first = 0 if min == "-" else int(min.removeprefix("(").removesuffix("-0")) + 1
        found = await self.call(lambda s: s.read(lambda d: list(d.between(key, first, count))))
        return [_streamed(entry) for entry in found]


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
            client.commands.append(ask)
            return None
        return await self._client.call(ask)


class Pipeline:
    """Commands that travel together."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self.commands: list[Ask] = []

    def set(self, key: str, value: bytes, *, px: int) -> None:
        """Set a text that expires."""
        self.commands.append(lambda s: s.write(lambda d, now: d.set(key, value, now + px)))

    def time(self) -> None:
        """Read the server's clock."""

        def ask(server: Server) -> tuple[int, int]:
            seconds, milliseconds = divmod(server.now_ms(), 1000)
            return seconds, milliseconds * 1000

        self.commands.append(ask)

    async def execute(self) -> list[Any]:
        """Run them one after another; the first that fails is raised when all have run."""

        def ask(server: Server) -> list[Any]:
            results: list[Any] = []
            for command in self.commands:
                try:
                    results.append(command(server))
                except RedisError as error:
                    results.append(error)
            return results

        results = list(await self._client.call(ask))
        for result in results:
            if isinstance(result, RedisError):
                raise result
        return results


def _settle(answer: asyncio.Future[Any], result: Any, problem: Exception | None) -> None:
    if answer.done():
        return
    if problem is not None:
        answer.set_exception(problem)
    else:
        answer.set_result(result)


def _streamed(entry: Entry) -> tuple[bytes, dict[bytes, bytes]]:
    number, fields = entry
    return b"%d-0" % number, dict(zip(fields[::2], fields[1::2], strict=True))
