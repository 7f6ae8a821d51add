"""A Redis as managed services offer it: one user, commands that do not exist, TLS, RESP3 only."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Final, Self

from deploy.local.places import REDIS_CONF
from deploy.local.ports import HOST, Reservation
from deploy.local.programs.supervisor import Program
from tools.support.processes.processes import Processes
from tools.support.processes.redis import redis_binary
from tools.support.processes.redis_call import call_redis
from tools.support.proxies.faults import abort
from tools.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from deploy.local.redis.binary import RedisBinary

USER: Final = "default"
MISSING: Final = ("CONFIG", "ACL", "CLIENT", "ROLE", "WAIT", "DEBUG", "MONITOR", "REPLICAOF")
"""Commands that managed services remove."""


class ManagedRedis:
    """One server with a single user, without some commands."""

    def __init__(
        self,
        directory: Path,
        *,
        missing: Sequence[str] = MISSING,
        binary: RedisBinary | None = None,
    ) -> None:
        self._processes = Processes()
        self._reservation = Reservation()
        self.port: Final = self._reservation.port
        self.password: Final = secrets.token_hex(16)
        directory.mkdir()
        file = directory / "redis.conf"
        removed = "".join(f'rename-command {command} ""\n' for command in missing)
        file.write_text(
            f"{REDIS_CONF.read_text()}\nport {self.port}\nbind {HOST}\ndir {directory}\n"
            f"requirepass {self.password}\n{removed}"
        )
        self._program = Program(
            name="redis",
            command=[str((binary or redis_binary()).path), str(file)],
            env={},
            log=directory / "redis.log",
        )

    def url(self, port: int = 0, *, scheme: str = "redis", options: str = "") -> str:
        """Return its URL, at a proxy's port if given."""
        host = "localhost" if scheme == "rediss" else HOST
        return f"{scheme}://{USER}:{self.password}@{host}:{port or self.port}/0{options}"

    def __enter__(self) -> Self:
        child = self._processes.start(self._program)

        def answers() -> bool:
            child.require_alive()
            try:
                return call_redis(self.port, USER, self.password, "PING") == "PONG"
            except OSError:
                return False

        wait_until(answers, "Redis answers")
        return self

    def __exit__(self, *_: object) -> None:
        self._processes.close()
        self._reservation.release()


class Resp3Only:
    """A proxy that ends every connection whose first command is not `HELLO 3`."""

    def __init__(self, port: int) -> None:
        self._to = port
        self.port = 0
        self.refused = 0
        self._carrying: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._carrying:
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)
        await abort(self._writers)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.read(4096)
        if b"\r\nHELLO\r\n$1\r\n3\r\n" not in first:
            self.refused += 1
            writer.write(b"-NOPROTO only RESP3 is supported\r\n")
            writer.close()
            return
        there, back = await asyncio.open_connection(HOST, self._to)
        self._writers |= {writer, back}
        back.write(first)
        both = [
            asyncio.create_task(_carry(reader, back)),
            asyncio.create_task(_carry(there, writer)),
        ]
        self._carrying.update(both)
        await asyncio.wait(both)
        self._carrying.difference_update(both)
        if not any(task.cancelled() for task in both):
            self._writers -= {writer, back}


async def _carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65_536):
            target.write(data)
    except OSError:
        pass
    finally:
        target.close()
