from __future__ import annotations

import asyncio
import stat
from typing import TYPE_CHECKING

import pytest
import redis.asyncio
from redis.exceptions import NoPermissionError, ResponseError

from deploy.local.errors import RedisTooOld
from deploy.local.places import REDIS_USERS
from deploy.local.redis_binary import RedisBinary
from deploy.local.redis_call import RedisCallError, call_redis
from deploy.local.redis_server import PASSWORDS, LocalRedis, access_list

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.redis import RedisServer

NEWS = "latchkey:news"


@pytest.fixture(params=["2", "3"], ids=["RESP2", "RESP3"])
def protocol(request: pytest.FixtureRequest) -> str:
    version: str = request.param
    return version


@pytest.fixture
async def gateway(redis_server: RedisServer, protocol: str) -> AsyncIterator[redis.asyncio.Redis]:
    async with redis.asyncio.from_url(f"{redis_server.gateway_url}?protocol={protocol}") as client:
        yield client


@pytest.fixture
async def approval(redis_server: RedisServer, protocol: str) -> AsyncIterator[redis.asyncio.Redis]:
    async with redis.asyncio.from_url(f"{redis_server.approval_url}?protocol={protocol}") as client:
        yield client


async def heard(client: redis.asyncio.Redis, channel: str, said: bytes) -> object:
    """Subscribe, publish, and return what arrived."""
    async with client.pubsub(ignore_subscribe_messages=False) as listener:
        await listener.subscribe(channel)
        await listener.get_message(timeout=5)
        assert await client.publish(channel, said) == 1
        message = await listener.get_message(timeout=5)
        assert message is not None
        await listener.unsubscribe(channel)
        return message["data"]


async def require_refused(client: redis.asyncio.Redis, command: str) -> None:
    """Fail unless Redis refuses the user the command."""
    with pytest.raises(NoPermissionError):
        await client.execute_command(*command.split())  # type: ignore[no-untyped-call]


class TestGatewayUser:
    async def test_it_talks_and_listens_on_our_channels(self, gateway: redis.asyncio.Redis) -> None:
        assert await gateway.ping()
        await gateway.client_setname("gateway-1")
        assert await heard(gateway, NEWS, b"\x00\xff") == b"\x00\xff"

    @pytest.mark.parametrize("command", ["PUBLISH other x", "SUBSCRIBE other", "PSUBSCRIBE *"])
    async def test_it_has_no_other_channel(
        self, gateway: redis.asyncio.Redis, command: str
    ) -> None:
        await require_refused(gateway, command)

    @pytest.mark.parametrize(
        "command",
        [
            *("GET latchkey:head", "SET latchkey:head 1", "DEL latchkey:head", "SCAN 0", "KEYS *"),
            *("EVAL return 1 0", "SCRIPT LOAD x", "FLUSHALL", "CONFIG GET *", "INFO", "ACL WHOAMI"),
            *("CLIENT LIST", "CLIENT KILL ID 1", "MONITOR", "SHUTDOWN"),
        ],
    )
    async def test_it_has_no_key_and_no_say(
        self, gateway: redis.asyncio.Redis, command: str
    ) -> None:
        await require_refused(gateway, command)


class TestApprovalUser:
    async def test_it_keeps_the_records(self, approval: redis.asyncio.Redis) -> None:
        async with approval.pipeline(transaction=True) as pipeline:
            pipeline.set("latchkey:device:a", b"1", px=60_000)
            pipeline.mget("latchkey:device:a", "latchkey:device:b")
            pipeline.xadd("latchkey:audit", {"v": "1"})
            pipeline.zadd("latchkey:pending", {"a": 1})
            assert (await pipeline.execute())[1] == [b"1", None]

    async def test_it_runs_scripts_on_its_keys(self, approval: redis.asyncio.Redis) -> None:
        script = approval.register_script("return redis.call('incr', KEYS[1])")
        assert await script(keys=["latchkey:head"]) == 1
        assert await script(keys=["latchkey:head"]) == 2
        with pytest.raises(ResponseError):
            await script(keys=["head"])

    async def test_it_asks_redis_how_it_is(self, approval: redis.asyncio.Redis) -> None:
        info = await approval.info("persistence")
        assert info["aof_enabled"] == 1
        assert (await approval.info("memory"))["maxmemory_policy"] == "noeviction"
        assert len(await approval.time()) == 2
        assert await approval.wait(0, 1) == 0

    async def test_it_talks_and_listens_on_our_channels(
        self, approval: redis.asyncio.Redis
    ) -> None:
        assert await heard(approval, NEWS, b"hello") == b"hello"

    @pytest.mark.parametrize(
        "command",
        [
            *("GET other", "SET other 1", "PUBLISH other x", "SUBSCRIBE other", "KEYS *"),
            *("FLUSHALL", "FLUSHDB", "CONFIG GET *", "ACL LIST", "CLIENT LIST", "MONITOR"),
            *("SHUTDOWN", "SCRIPT FLUSH", "SWAPDB 0 1", "BGREWRITEAOF"),
        ],
    )
    async def test_it_has_nothing_else(self, approval: redis.asyncio.Redis, command: str) -> None:
        await require_refused(approval, command)


class TestEverybodyElse:
    def test_nobody_is_anonymous(self, redis_server: RedisServer) -> None:
        with pytest.raises(RedisCallError, match="WRONGPASS"):
            call_redis(redis_server.port, "default", "", "PING")

    def test_a_wrong_password(self, redis_server: RedisServer) -> None:
        with pytest.raises(RedisCallError, match="WRONGPASS"):
            call_redis(redis_server.port, "gateway", "wrong", "PING")


class TestDurability:
    async def test_what_was_answered_survives_a_kill(self, redis_server: RedisServer) -> None:
        async with redis.asyncio.from_url(redis_server.approval_url) as client:
            for number in range(100):
                await client.set(f"latchkey:{number}", number)
        await asyncio.to_thread(redis_server.restart)
        async with redis.asyncio.from_url(redis_server.approval_url) as client:
            kept = await client.mget([f"latchkey:{number}" for number in range(100)])
        assert kept == [str(number).encode() for number in range(100)]

    async def test_the_configuration(self, redis_server: RedisServer) -> None:
        async with redis.asyncio.from_url(redis_server.admin_url, decode_responses=True) as client:
            wanted = {
                "appendonly": "yes",
                "appendfsync": "always",
                "maxmemory-policy": "noeviction",
                "save": "",
                "bind": "127.0.0.1",
            }
            assert {name: (await client.config_get(name))[name] for name in wanted} == wanted


class TestWhatIsWritten:
    def test_no_password_and_nobody_else_may_read_it(self, tmp_path: Path) -> None:
        passwords = {name: f"secret of {name}" for name in PASSWORDS}
        server = LocalRedis(RedisBinary(tmp_path, (7, 0)), 1, tmp_path / "redis", passwords)
        server.program(tmp_path / "log")
        users = tmp_path / "redis" / "users.acl"
        assert "secret" not in users.read_text()
        assert stat.S_IMODE(users.stat().st_mode) == 0o600
        assert stat.S_IMODE(users.parent.stat().st_mode) == 0o700

    def test_an_access_list_has_users_only(self) -> None:
        written = access_list(REDIS_USERS.read_text(), dict.fromkeys(PASSWORDS, "x"))
        assert [line.split()[:2] for line in written.splitlines()] == [
            ["user", "default"],
            ["user", "gateway"],
            ["user", "approval"],
        ]
        assert "@REDIS" not in written

    def test_a_password_that_is_missing_is_an_error(self) -> None:
        with pytest.raises(KeyError):
            access_list("user a on #@REDIS_GATEWAY_PASSWORD_SHA256@", {})

    def test_redis_6_does_not_start_empty_on_the_data_of_7(self, tmp_path: Path) -> None:
        (tmp_path / "appendonlydir").mkdir()
        passwords = dict.fromkeys(PASSWORDS, "x")
        with pytest.raises(RedisTooOld, match=r"6\.2"):
            LocalRedis(RedisBinary(tmp_path, (6, 2)), 1, tmp_path, passwords).program(tmp_path)
        LocalRedis(RedisBinary(tmp_path, (7, 0)), 1, tmp_path, passwords).program(tmp_path)
