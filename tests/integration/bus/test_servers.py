"""What a connection checks before it is used: the role of the server, and where a name leads."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

from redis.exceptions import ConnectionError as LostError

from shared.bus.channels import EVENTS
from shared.redis.access import RedisAccess
from shared.redis.address import Place
from tests.integration.bus.members import member, until_heard
from tools.support.processes.redis import RedisServer
from tools.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from pytest import MonkeyPatch  # noqa: PT013  for its type

KEY = "latchkey:a"
NAME = "redis.test"
SOON_SECONDS = 1.0
"""Well below the time limit for connecting."""


class Named:
    """Names a server as the primary; `stays` says whether it still is when it is connected."""

    def __init__(self, server: RedisServer, *, stays: bool = True) -> None:
        self._place = Place("127.0.0.1", server.port)
        self._stays = stays
        self.opening: set[asyncio.Timeout] = set()

    async def find(self) -> Place:
        return self._place

    def is_at(self, place: Place) -> bool:
        return self._stays and place == self._place


async def reached(server: RedisServer, named: Named, user_url: str = "") -> str:
    """Connect to what is named; return the error, or nothing."""
    pool = RedisAccess(user_url or server.approval_url).pool(1, 2.0, primary=named)
    try:
        connection = await pool.get_connection()  # type: ignore[no-untyped-call]
        await pool.release(connection)
    except LostError as error:
        return str(error)
    finally:
        await pool.disconnect()
    return ""


class TestRole:
    async def test_the_primary_is_used(self, redis_server: RedisServer) -> None:
        assert await reached(redis_server, Named(redis_server)) == ""

    async def test_a_replica_is_not(self, redis_server: RedisServer, tmp_path: Path) -> None:
        with RedisServer(tmp_path) as replica:
            replica.take_users(redis_server)
            replica.follow(redis_server)
            assert "but is a replica" in await reached(redis_server, Named(replica))

    async def test_one_that_stopped_being_the_primary_meanwhile_is_not(
        self, redis_server: RedisServer
    ) -> None:
        text = await reached(redis_server, Named(redis_server, stays=False))
        assert "stopped being the primary" in text

    async def test_one_that_does_not_tell_its_role_is_not(self, redis_server: RedisServer) -> None:
        text = await reached(redis_server, Named(redis_server), redis_server.member_url)
        assert "does not tell its role" in text


class TestOpening:
    async def test_a_failover_ends_what_is_being_opened_at_a_primary_that_hangs(
        self, redis_server: RedisServer
    ) -> None:
        named = Named(redis_server)
        redis_server.pause()
        try:
            opening = asyncio.create_task(reached(redis_server, named))
            await until(lambda: named.opening, "it is being opened")
            await asyncio.sleep(0.1)
            for scope in named.opening:
                scope.reschedule(asyncio.get_running_loop().time())
            async with asyncio.timeout(SOON_SECONDS):
                assert "the primary changed" in await opening
        finally:
            redis_server.resume()
        assert not named.opening
        assert await reached(redis_server, named) == ""


class TestNames:
    async def test_each_connection_looks_the_name_up_again(
        self, redis_server: RedisServer, tmp_path: Path, monkeypatch: MonkeyPatch
    ) -> None:
        loop = asyncio.get_running_loop()
        leads_to = redis_server.port
        look_up = loop.getaddrinfo

        async def getaddrinfo(host: Any, port: Any, **options: Any) -> Any:
            if host != NAME:
                return await look_up(host, port, **options)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", leads_to))]

        monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
        with RedisServer(tmp_path) as other:
            other.take_users(redis_server)
            url = redis_server.member_url.replace("127.0.0.1", NAME)
            async with member(url) as peer:
                assert await peer.publish(EVENTS, b"before") == 1
                leads_to = other.port
                for kind in ("normal", "pubsub"):
                    redis_server.call("CLIENT", "KILL", "TYPE", kind)
                await until(lambda: peer.subscribed == 2 and peer.ok, "at the other")
                await until_heard(peer, b"there")
                assert other.call("PUBLISH", EVENTS, "") == "1"
