from __future__ import annotations

import asyncio
import re
import stat
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import redis.asyncio
from redis.exceptions import NoPermissionError, ResponseError

from deploy.local.errors import RedisTooOld
from deploy.local.places import REDIS_6_USERS, REDIS_USERS, ROOT
from deploy.local.redis.binary import RedisBinary
from deploy.local.redis.server import LocalRedis, access_list, users_for
from deploy.secret_names import PASSWORDS
from tests.support.redis_kinds import KINDS, binary_of
from tools.support.processes.redis import RedisServer
from tools.support.processes.redis_call import RedisCallError, call_redis

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

ASK, INBOX, EVENTS = "latchkey:ask:a", "latchkey:inbox:g", "latchkey:events"
SEVEN = (7, 0)


@pytest.fixture(scope="module", params=KINDS)
def server_of_a_kind(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisServer]:
    binary = binary_of(request.param)
    with RedisServer(tmp_path_factory.mktemp("redis"), binary) as server:
        yield server


@pytest.fixture
def redis_server(server_of_a_kind: RedisServer) -> RedisServer:
    server_of_a_kind.make_empty()
    return server_of_a_kind


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


async def heard(
    listener: redis.asyncio.Redis, channels: list[str], talker: redis.asyncio.Redis
) -> list[object]:
    """Subscribe one user to all channels and publish with the other; returns what arrived."""
    found: list[object] = []
    async with listener.pubsub(ignore_subscribe_messages=False) as ears:
        await ears.subscribe(*channels)
        for _ in channels:
            await ears.get_message(timeout=5)
        for channel in channels:
            assert await talker.publish(channel, b"\x00\xff") == 1
            message = await ears.get_message(timeout=5)
            assert message is not None
            found.append(message["data"])
        await ears.unsubscribe()
    return found


async def require_refused(client: redis.asyncio.Redis, command: str) -> None:
    """Fail unless Redis refuses the user the command."""
    with pytest.raises(NoPermissionError):
        await client.execute_command(*command.split())  # type: ignore[no-untyped-call]


def require_refused_from_seven(server: RedisServer, url: str, command: str) -> None:
    """Fail unless Redis 7 or later refuses the command; Redis 6.2 cannot, and allows it."""
    user = urlsplit(url)
    login = (user.username or "", user.password or "")
    if server.version < SEVEN:
        call_redis(server.port, *login, *command.split())
    else:
        with pytest.raises(RedisCallError, match="NOPERM"):
            call_redis(server.port, *login, *command.split())


class TestGatewayUser:
    async def test_the_gateway_user_may_ask_approval(
        self, gateway: redis.asyncio.Redis, approval: redis.asyncio.Redis
    ) -> None:
        assert await gateway.ping()
        await gateway.client_setname("gateway-1")
        assert await heard(approval, [ASK], gateway) == [b"\x00\xff"]

    @pytest.mark.parametrize(
        "command",
        ["PUBLISH other x", "SUBSCRIBE other", "PSUBSCRIBE *", "PSUBSCRIBE latchkey:*"],
    )
    async def test_it_has_no_other_channel(
        self, gateway: redis.asyncio.Redis, command: str
    ) -> None:
        await require_refused(gateway, command)

    @pytest.mark.parametrize(
        "command", [f"PUBLISH {EVENTS} x", f"PUBLISH {INBOX} x", f"SUBSCRIBE {ASK}"]
    )
    def test_it_cannot_answer_publish_events_or_read_requests(
        self, redis_server: RedisServer, command: str
    ) -> None:
        require_refused_from_seven(redis_server, redis_server.gateway_url, command)

    @pytest.mark.parametrize(
        "command",
        [
            *("GET latchkey:head", "SET latchkey:head 1", "DEL latchkey:head", "KEYS *"),
            *("EVAL return 1 0", "SCRIPT LOAD x", "FLUSHALL", "CONFIG GET *", "INFO", "ACL WHOAMI"),
            *("CLIENT LIST", "CLIENT KILL ID 1", "MONITOR", "SHUTDOWN"),
        ],
    )
    async def test_it_has_no_key_and_no_say(
        self, gateway: redis.asyncio.Redis, command: str
    ) -> None:
        await require_refused(gateway, command)


class TestApprovalUser:
    async def test_the_approval_user_may_keep_the_records(
        self, approval: redis.asyncio.Redis
    ) -> None:
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
        assert await approval.config_get("appendfsync") == {"appendfsync": "always"}
        assert (await approval.info("memory"))["maxmemory_policy"] == "noeviction"
        assert len(await approval.time()) == 2
        assert await approval.wait(0, 1) == 0

    async def test_it_answers_and_publishes_events(
        self, gateway: redis.asyncio.Redis, approval: redis.asyncio.Redis
    ) -> None:
        assert await heard(gateway, [INBOX, EVENTS], approval) == [b"\x00\xff"] * 2
        assert await heard(approval, [EVENTS], approval) == [b"\x00\xff"]

    @pytest.mark.parametrize("command", [f"PUBLISH {ASK} x", f"SUBSCRIBE {INBOX}"])
    def test_it_cannot_ask_or_read_answers(self, redis_server: RedisServer, command: str) -> None:
        require_refused_from_seven(redis_server, redis_server.approval_url, command)

    @pytest.mark.parametrize(
        "command",
        [
            *("GET other", "SET other 1", "PUBLISH other x", "SUBSCRIBE other", "KEYS *"),
            *("FLUSHALL", "FLUSHDB", "ACL LIST", "CLIENT LIST", "MONITOR", "RANDOMKEY"),
            *("CONFIG SET appendfsync no", "CONFIG REWRITE", "CONFIG RESETSTAT"),
            *("SHUTDOWN", "SCRIPT FLUSH", "SWAPDB 0 1", "BGREWRITEAOF", "REPLICAOF a 1"),
            *("RENAME latchkey:head latchkey:h", "COPY latchkey:head latchkey:h"),
        ],
    )
    async def test_the_approval_user_has_no_other_rights(
        self, approval: redis.asyncio.Redis, command: str
    ) -> None:
        await require_refused(approval, command)


class TestEverybodyElse:
    def test_anonymous_connections_may_do_nothing(self, redis_server: RedisServer) -> None:
        with pytest.raises(RedisCallError, match="WRONGPASS"):
            call_redis(redis_server.port, "default", "", "PING")

    def test_a_wrong_password_is_refused(self, redis_server: RedisServer) -> None:
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

    async def test_the_configuration_is_durable(self, redis_server: RedisServer) -> None:
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

    @pytest.mark.parametrize("template", [REDIS_USERS, REDIS_6_USERS], ids=lambda path: path.name)
    def test_an_access_list_has_users_only(self, template: Path) -> None:
        written = access_list(template.read_text(), dict.fromkeys(PASSWORDS, "x"))
        assert [line.split()[:2] for line in written.splitlines()] == [
            ["user", "default"],
            ["user", "gateway"],
            ["user", "approval"],
        ]
        assert "@REDIS" not in written

    @pytest.mark.parametrize(
        ("version", "template"),
        [((6, 2), REDIS_6_USERS), ((7, 0), REDIS_USERS), ((8, 4), REDIS_USERS)],
    )
    def test_the_version_chooses_the_users(self, version: tuple[int, int], template: Path) -> None:
        assert users_for(version) == template

    @pytest.mark.parametrize("template", [REDIS_USERS, REDIS_6_USERS], ids=lambda path: path.name)
    def test_approval_may_do_what_its_scripts_do(self, template: Path) -> None:
        said = "".join(
            path.read_text() for path in (ROOT / "services/approval/storage/scripts").glob("*.lua")
        )
        used = set(re.findall(r"redis\.call\('(\w+)'", said)) | set(
            re.findall(r"(?:of_presence|return redis\.call)\('(\w+)'", said)
        )
        (line,) = [one for one in template.read_text().splitlines() if "user approval" in one]
        allowed = set(re.findall(r"\+([\w|]+)", line))
        assert used
        assert {command.lower() for command in used} <= allowed

    def test_a_password_that_is_missing_is_an_error(self) -> None:
        with pytest.raises(KeyError):
            access_list("user a on #@REDIS_GATEWAY_PASSWORD_SHA256@", {})

    def test_redis_6_does_not_start_empty_on_the_data_of_7(self, tmp_path: Path) -> None:
        (tmp_path / "appendonlydir").mkdir()
        passwords = dict.fromkeys(PASSWORDS, "x")
        with pytest.raises(RedisTooOld, match=r"6\.2"):
            LocalRedis(RedisBinary(tmp_path, (6, 2)), 1, tmp_path, passwords).program(tmp_path)
        LocalRedis(RedisBinary(tmp_path, (7, 0)), 1, tmp_path, passwords).program(tmp_path)
