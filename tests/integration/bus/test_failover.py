"""Another Redis becomes the master while connections to the old one stay open."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import structlog
from redis.exceptions import MasterDownError, ReadOnlyError, ResponseError
from structlog.testing import capture_logs

from shared.bus.channels import EVENTS
from shared.bus.errors import Unavailable
from shared.bus.publisher import UNHEARD_LIMIT
from shared.redis.access import make_client
from shared.redis.connection import Reads
from shared.redis.failover import RENEW_SECONDS, FailoverReset, says_no_master
from tests.integration.bus.members import Approval, Gateway, announced, member, until_heard
from tests.support.callbacks import result_of
from tests.support.clock import FakeClock
from tests.support.failover import fail_over
from tools.support.processes.redis import RedisServer
from tools.support.proxies.faults import FaultProxy
from tools.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from redis.asyncio import Redis

KEY = "latchkey:a"


@pytest.fixture
def other(redis_server: RedisServer, tmp_path: Path) -> Iterator[RedisServer]:
    """Return another Redis with the same users, as a replica of the first."""
    with RedisServer(tmp_path) as server:
        server.take_users(redis_server)
        server.follow(redis_server)
        try:
            yield server
        finally:
            redis_server.lead()


def through(way: FaultProxy, server: RedisServer, url: str) -> str:
    return url.replace(str(server.port), str(way.port))


class TestAsking:
    async def test_a_responder_heard_but_not_reached_is_found(
        self, redis_server: RedisServer, other: RedisServer
    ) -> None:
        url = redis_server.member_url
        moved = Approval(url.replace(str(redis_server.port), str(other.port)))
        async with FaultProxy(redis_server.port) as way:
            gateway = Gateway(through(way, redis_server, url))
            gateway.responders._on_astray = lambda: gateway.bus.renew("astray")
            async with gateway.running():
                await until(lambda: gateway.ok, "subscribed")
                fail_over(redis_server, other, way)
                with capture_logs() as logs:
                    async with moved.running(), announced(moved):
                        await until(lambda: moved.ok, "the other is subscribed")
                        answer = None
                        while answer is None:
                            try:
                                answer = await gateway.ask(1)
                            except Unavailable:
                                await asyncio.sleep(0.02)
        assert answer == [1, moved.boot_id]
        assert [log["why"] for log in logs if log["event"] == "bus_renewed"] == ["astray"]
        assert gateway.subscribed == 2, "it learns that it may have missed messages"


class TestOwnMessages:
    async def test_publisher_and_subscription_at_different_servers_are_brought_together(
        self, redis_server: RedisServer, tmp_path: Path
    ) -> None:
        with RedisServer(tmp_path) as apart:
            apart.take_users(redis_server)
            async with FaultProxy(redis_server.port) as way:
                url = through(way, redis_server, redis_server.member_url)
                async with member(url) as peer:
                    assert await peer.publish(EVENTS, b"before") == 1
                    way.lead_to(apart.port)
                    redis_server.call("CLIENT", "KILL", "TYPE", "pubsub")
                    await until(lambda: peer.subscribed == 2, "the subscription is at the other")
                    with capture_logs() as logs:
                        for _ in range(UNHEARD_LIMIT):
                            assert await peer.publish(EVENTS, b"lost") == 0
                        await until(lambda: peer.subscribed == 3 and peer.ok, "both are reopened")
                        await until_heard(peer, b"there")
            assert [log["event"] for log in logs].count("bus_renewed") == 1

    async def test_they_are_made_anew_once_in_a_while_only(self, redis_server: RedisServer) -> None:
        async with member(redis_server.member_url) as peer:
            peer.bus.renew("first")
            await until(lambda: peer.subscribed == 2, "reopened")
            with capture_logs() as logs:
                peer.bus.renew("too soon")
                await until_heard(peer, b"there")
            assert (peer.subscribed, logs) == (2, [])


class Process:
    """A process's access to Redis: a client, reads, and failover handling, with its own clock."""

    def __init__(self, url: str) -> None:
        self.clock = FakeClock()
        self.renewal = FailoverReset(self.clock, structlog.get_logger(), "redis.demoted")
        self.client: Redis = make_client(
            url, max_connections=4, timeout_seconds=5.0, reset=self.renewal
        )
        self.reads = Reads(self.client, 5.0)
        self.renewal.hold(self.reads.close)

    async def write(self) -> bool:
        try:
            await self.client.set(KEY, b"1")
        except ReadOnlyError:
            return False
        return True

    async def write_with_others(self, count: int) -> list[bool]:
        return await asyncio.gather(*(self.write() for _ in range(count)))


@asynccontextmanager
async def process(way: FaultProxy, server: RedisServer) -> AsyncIterator[Process]:
    entry = Process(through(way, server, server.approval_url))
    try:
        assert await entry.write_with_others(4) == [True] * 4
        assert await result_of(entry.reads.read, KEY) == [b"1"]
        yield entry
    finally:
        await entry.reads.close()
        await entry.client.aclose()


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ReadOnlyError("You can't write against a read only replica."), True),
        (MasterDownError("Link with MASTER is down"), True),
        (ResponseError("Error running script: -READONLY You can't write"), True),
        (ResponseError("NOREPLICAS Not enough good replicas to write."), False),
        (ResponseError("WRONGTYPE"), False),
    ],
)
def test_errors_tell_whether_the_server_is_a_master(error: Exception, says: bool) -> None:  # noqa: FBT001
    assert says_no_master(error) is says


class TestWriting:
    async def test_what_says_it_is_no_master_is_given_up_with_all_other_connections(
        self, redis_server: RedisServer, other: RedisServer
    ) -> None:
        async with FaultProxy(redis_server.port) as way, process(way, redis_server) as item:
            fail_over(redis_server, other, way)
            with capture_logs() as logs:
                assert not await item.write()
            assert [log["event"] for log in logs] == ["redis.demoted"]
            accepted = way.accepted
            assert await item.write_with_others(4) == [True] * 4
            assert await result_of(item.reads.read, KEY) == [b"1"]
            assert way.accepted == accepted + 5

    async def test_pipelines_and_scripts_fail_over_as_well(
        self, redis_server: RedisServer, other: RedisServer
    ) -> None:
        async with FaultProxy(redis_server.port) as way, process(way, redis_server) as item:
            fail_over(redis_server, other, way)
            script = item.client.register_script("return redis.call('SET', KEYS[1], '1')")
            pipeline = item.client.pipeline(transaction=False)
            await script(keys=[KEY], client=pipeline)
            with pytest.raises(ResponseError) as caught:
                await pipeline.execute()
            assert says_no_master(caught.value)
            assert await item.write()

    async def test_those_in_use_are_given_up_once_they_are_free(
        self, redis_server: RedisServer, other: RedisServer
    ) -> None:
        async with FaultProxy(redis_server.port) as way, process(way, redis_server) as item:
            fail_over(redis_server, other, way)
            assert await item.write_with_others(4) == [False] * 4
            assert await item.write_with_others(4) == [True] * 4

    async def test_where_no_master_is_reached_they_are_given_up_once_in_a_while_only(
        self, redis_server: RedisServer, other: RedisServer
    ) -> None:
        async with FaultProxy(redis_server.port) as way, process(way, redis_server) as item:
            fail_over(redis_server, other, way)
            way.lead_to(redis_server.port)
            assert not await item.write()
            assert not await item.write()
            accepted = way.accepted
            for _ in range(5):
                assert not await item.write()
            assert way.accepted == accepted
            way.lead_to(other.port)
            item.clock.advance(RENEW_SECONDS)
            assert not await item.write()
            assert await item.write()

    async def test_the_bus_of_a_process_fails_over_with_them(
        self, redis_server: RedisServer, other: RedisServer
    ) -> None:
        async with (
            FaultProxy(redis_server.port) as way,
            process(way, redis_server) as item,
            member(through(way, redis_server, redis_server.member_url)) as listening,
        ):
            item.renewal.hold(listening.bus._give_up)
            fail_over(redis_server, other, way)
            assert not await item.write()
            await until(lambda: listening.subscribed == 2 and listening.ok, "reopened")
            assert await listening.publish(EVENTS, b"there") == 1
            assert redis_server.call("PUBLISH", EVENTS, "") == "0", "no connection is left there"
            await until(lambda: b"there" in listening.bodies(EVENTS), "heard at the other")
