"""RedisBus on a real Redis that goes away, hangs, cuts it off, and carries garbage."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from shared.bus import counters
from shared.bus.channels import NEWS
from shared.bus.envelope import Opened
from shared.bus.errors import Unavailable
from shared.bus.redis import make_client
from tests.integration.bus.members import Member, member
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from tests.support.redis import RedisServer


@pytest.fixture
async def admin(redis_server: RedisServer) -> AsyncIterator[Redis]:
    client = make_client(redis_server.admin_url, max_connections=1, timeout_seconds=5.0)
    yield client
    await client.aclose()


async def until_heard(one: Member, body: bytes) -> None:
    """Publish to oneself until it comes back, as news do each second."""

    async def heard() -> None:
        while body not in one.bodies(NEWS):
            try:
                await one.publish(NEWS, body)
            except Unavailable:
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.01)

    await asyncio.wait_for(heard(), 20)


class TestPublishing:
    async def test_with_no_more_rights_than_a_gateway_has(self, redis_server: RedisServer) -> None:
        async with (
            member(redis_server.gateway_url) as one,
            member(redis_server.approval_url) as two,
        ):
            assert await two.publish(one.channel, b"answer") == 1
            assert await two.publish(NEWS, b"news") == 2
            await until(lambda: len(one.messages) == 2, "both came")
            assert one.messages == [(one.channel, b"answer"), (NEWS, b"news")]
            assert one.bus.status() == (True, "subscribed")
            assert one.subscribed == 1

    async def test_nobody_listens(self, redis_server: RedisServer) -> None:
        async with member(redis_server.gateway_url) as one:
            assert await one.publish("latchkey:ask:nobody", b"") == 0

    async def test_the_order_of_the_calls_is_kept(self, redis_server: RedisServer) -> None:
        async with member(redis_server.gateway_url) as one, member(redis_server.gateway_url) as two:
            bodies = [b"%d" % n for n in range(2000)]
            counts = await asyncio.gather(*(two.publish(one.channel, body) for body in bodies))
            assert set(counts) == {1}
            await until(lambda: len(one.messages) == len(bodies), "all came")
            assert one.bodies() == bodies

    async def test_what_waits_travels_in_one_round_trip(
        self, redis_server: RedisServer, admin: Redis
    ) -> None:
        async with member(redis_server.gateway_url) as one:
            await one.publish(NEWS, b"")
            before: Any = await admin.info("stats")
            await asyncio.gather(*(one.publish(NEWS, b"%d" % n) for n in range(200)))
            after: Any = await admin.info("stats")
            reads = after["total_reads_processed"] - before["total_reads_processed"]
            assert reads < 20

    async def test_a_channel_it_has_no_right_to_is_unavailable_and_said_once(
        self, redis_server: RedisServer
    ) -> None:
        async with member(redis_server.gateway_url) as one:
            with capture_logs() as logs:
                for _ in range(3):
                    with pytest.raises(Unavailable) as caught:
                        await one.publish("not-ours", b"")
                    assert caught.value.dependency == "redis"
            assert [log["event"] for log in logs] == ["bus_lost"]
            assert "permissions" in logs[0]["error"]
            assert not one.ok
            await until_heard(one, b"a channel it may use")
            assert one.ok


class TestLostConnections:
    async def test_attack_33_absent_at_the_start(self, redis_server: RedisServer) -> None:
        redis_server.stop()
        with capture_logs() as logs:
            async with Member(redis_server.gateway_url).running() as one:
                for _ in range(5):
                    with pytest.raises(Unavailable) as caught:
                        await one.publish(NEWS, b"")
                    assert (caught.value.reason, caught.value.dependency) == ("redis", "redis")
                await until(lambda: "Connection" in one.bus.status()[1], "the reason is known")
                assert not one.ok
                assert one.subscribed == 0
                redis_server.start()
                await until_heard(one, b"there")
                assert one.ok
                assert one.subscribed == 1
        events = [(log["event"], log["link"]) for log in logs]
        assert sorted(events) == sorted(
            (event, link)
            for event in ("bus_lost", "bus_back")
            for link in ("publisher", "subscription")
        )
        assert not any("latchkey:" in str(log) for log in logs)

    async def test_killed_subscriptions_are_made_anew_within_a_second_and_told_of(
        self, redis_server: RedisServer
    ) -> None:
        async with member(redis_server.gateway_url) as one:
            loop = asyncio.get_running_loop()
            for n in range(2, 6):
                started = loop.time()
                redis_server.call("CLIENT", "KILL", "TYPE", "pubsub")
                await until(lambda n=n: one.subscribed == n, "subscribed again")  # type: ignore[misc]
                assert loop.time() - started < 1.0
                await until_heard(one, b"%d" % n)

    async def test_a_killed_idle_publisher_loses_nothing(self, redis_server: RedisServer) -> None:
        async with member(redis_server.gateway_url) as one:
            for _ in range(5):
                assert await one.publish(one.channel, b"") == 1
                redis_server.call("CLIENT", "KILL", "TYPE", "normal")
                await asyncio.sleep(0.05)  # until the end of the connection has come through
            await until(lambda: len(one.messages) == 5, "all came")

    async def test_publishers_killed_under_load_fail_or_publish_and_never_hang(
        self, redis_server: RedisServer
    ) -> None:
        async with member(redis_server.gateway_url) as one:
            done, failed = 0, 0
            for n in range(600):
                if n % 100 == 50:
                    redis_server.call("CLIENT", "KILL", "TYPE", "normal")
                results = await asyncio.gather(
                    *(one.publish(one.channel, b"%d" % n) for _ in range(3)), return_exceptions=True
                )
                done += results.count(1)
                failed += sum(isinstance(result, Unavailable) for result in results)
            assert done + failed == 1800
            assert done > 900
            await until(lambda: len(one.messages) >= done, "what was confirmed came")

    async def test_a_restarted_redis(self, redis_server: RedisServer) -> None:
        async with member(redis_server.gateway_url) as one:
            for n in range(2):
                redis_server.restart()
                await until_heard(one, b"after restart %d" % n)
            assert one.subscribed == 3
            assert one.ok

    async def test_attack_35_cut_off_for_a_full_output_buffer(
        self, redis_server: RedisServer, admin: Redis
    ) -> None:
        limit: Any = await admin.config_get("client-output-buffer-limit")
        async with member(redis_server.gateway_url) as one, member(redis_server.gateway_url) as two:
            await admin.config_set("client-output-buffer-limit", "pubsub 1mb 1kb 1")
            try:
                await two.publish(one.channel, bytes(3 * 1024 * 1024))
                await until(lambda: one.subscribed == 2, "subscribed again")
            finally:
                await admin.config_set(
                    "client-output-buffer-limit", limit["client-output-buffer-limit"]
                )
            await until_heard(one, b"goes on")

    async def test_an_unknown_user_is_named_and_no_password_is_told(
        self, redis_server: RedisServer
    ) -> None:
        user, _, rest = redis_server.gateway_url.partition("@")
        password = user.rpartition(":")[2]
        url = f"{user}wrong@{rest}"
        with capture_logs() as logs:
            async with Member(url).running() as one:
                await until(lambda: "Authentication" in one.bus.status()[1], "refused")
                with pytest.raises(Unavailable) as caught:
                    await one.publish(NEWS, b"")
        assert password not in f"{logs} {caught.value} {one.bus.status()}"


class TestSilence:
    async def test_r14_without_any_message_the_connection_is_made_anew(
        self, redis_server: RedisServer
    ) -> None:
        with capture_logs() as logs:
            async with member(redis_server.gateway_url, silence_seconds=0.3) as one:
                await until(lambda: one.subscribed == 3, "subscribed anew twice")
                assert one.bus.status() == (False, "no message for 0.3 s")
                assert one.counts[counters.CONNECTIONS_LOST, "subscription", "silence"] >= 2
                assert [log["event"] for log in logs] == ["bus_lost"]
                await until_heard(one, b"at last")
                assert one.ok
            assert [log["event"] for log in logs][:2] == ["bus_lost", "bus_back"]

    async def test_r14_messages_keep_it_and_garbage_does_too(
        self, redis_server: RedisServer, admin: Redis
    ) -> None:
        async with member(redis_server.gateway_url, silence_seconds=0.5) as one:
            for n in range(8):
                await asyncio.sleep(0.1)
                await (one.publish(NEWS, b"") if n % 2 else admin.publish(NEWS, b"garbage"))
            assert one.subscribed == 1
            assert one.ok

    async def test_a_paused_redis_is_noticed_and_found_again_when_it_goes_on(
        self, redis_server: RedisServer
    ) -> None:
        async with member(redis_server.gateway_url, silence_seconds=0.3) as one:
            await until_heard(one, b"before")
            redis_server.pause()
            started = asyncio.get_running_loop().time()
            with pytest.raises(Unavailable):
                await one.publish(NEWS, b"lost")
            assert asyncio.get_running_loop().time() - started < 2.5
            await until(lambda: not one.bus._subscription.silent and not one.ok, "connecting fails")
            redis_server.resume()
            await until_heard(one, b"after")
            assert one.ok
            assert one.subscribed >= 2

    async def test_a_black_holed_connection_is_noticed(self, redis_server: RedisServer) -> None:
        async with BlackHole(redis_server.port) as hole:
            url = redis_server.gateway_url.replace(f":{redis_server.port}", f":{hole.port}")
            async with member(url, silence_seconds=0.3) as one:
                await until_heard(one, b"before")
                hole.swallow()
                subscribed = one.subscribed
                await until(lambda: one.subscribed > subscribed, "made anew")
                await until_heard(one, b"after")


class BlackHole:
    """A TCP relay whose connections can be made to carry nothing more, without being closed."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._open: list[asyncio.Task[None]] = []
        self._writers: list[asyncio.StreamWriter] = []
        self.port = 0

    def swallow(self) -> None:
        for task in self._open:
            task.cancel()
        self._open.clear()

    async def __aenter__(self) -> BlackHole:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.swallow()
        for writer in self._writers:
            writer.close()
        await self._server.wait_closed()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._to)
        self._writers += [writer, back]
        for source, target in ((reader, back), (there, writer)):
            self._open.append(asyncio.create_task(self._carry(source, target)))

    @staticmethod
    async def _carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            target.write(data)
        target.close()


class TestTheReaderLives:
    async def test_attack_31_garbage_on_its_channels(
        self, redis_server: RedisServer, admin: Redis
    ) -> None:
        async with member(redis_server.gateway_url) as one:
            stranger = Member(
                redis_server.gateway_url, secrets=["another secret of 32 characters!"]
            )
            sealed = one.envelope.seal(one.channel, b"our own")
            news = one.envelope.seal(NEWS, b"once")
            garbage: list[tuple[str, bytes]] = [
                (one.channel, b""),
                (one.channel, b"\x01"),
                (one.channel, bytes(10_000_000)),
                (one.channel, b"\xdd\xff\xff\xff\xff"),
                (NEWS, stranger.envelope.seal(NEWS, b"")),
                (one.channel, news),
                (one.channel, sealed),
                (NEWS, news),
                (NEWS, news),
            ]
            for channel, data in garbage:
                await admin.publish(channel, data)
            await until(lambda: len(one.rejected) == 8, "all are counted")
            assert one.rejected == [
                "unsealed",
                "unsealed",
                "oversized",
                "unsealed",
                "unsealed",
                "unsealed",
                "self",
                "replayed",
            ]
            assert one.bodies(NEWS) == [b"once"]
            assert one.subscribed == 1

    async def test_a_receiver_that_raises_is_logged_without_the_body_and_the_next_comes(
        self, redis_server: RedisServer
    ) -> None:
        class Fragile(Member):
            def on_message(self, channel: str, message: Opened) -> None:
                super().on_message(channel, message)
                if message.body == b"device token":
                    raise RecursionError

            def on_subscribed(self) -> None:
                super().on_subscribed()
                raise RuntimeError

        with capture_logs() as logs:
            async with Fragile(redis_server.gateway_url).running() as one:
                await until(lambda: one.ok, "subscribed")
                await one.publish(NEWS, b"device token")
                await one.publish(NEWS, b"next")
                await until(lambda: len(one.messages) == 2, "the next came")
                assert one.counts[counters.MESSAGES_FAILED,] == 1
                assert one.subscribed == 1
        assert [log["event"] for log in logs] == ["bus_subscribed_failed", "bus_message_failed"]
        assert "device token" not in str(logs)
        assert logs[1]["sender"] == one.boot_id


class TestStop:
    async def test_what_waits_is_published_and_both_connections_are_closed(
        self, redis_server: RedisServer, admin: Redis
    ) -> None:
        async with member(redis_server.gateway_url) as two:
            async with member(redis_server.gateway_url) as one:
                last = [
                    asyncio.ensure_future(one.publish(two.channel, b"%d" % n)) for n in range(9)
                ]
                await asyncio.sleep(0)
            assert [await future for future in last] == [1] * 9
            await until(lambda: len(two.messages) == 9, "all came")
            with pytest.raises(Unavailable):
                await one.publish(NEWS, b"")
            assert not one.ok
            name = f"latchkey-{one.boot_id[:8]}"

            async def connected() -> bool:
                clients: Any = await admin.client_list()
                return any(client["name"] == name for client in clients)

            while await connected():
                await asyncio.sleep(0.01)

    async def test_a_redis_that_hangs_does_not_hold_it_up(self, redis_server: RedisServer) -> None:
        one = Member(redis_server.gateway_url)
        async with one.running():
            await until(lambda: one.ok, "subscribed")
            redis_server.pause()
            waiting = asyncio.ensure_future(one.publish(NEWS, b""))
            await asyncio.sleep(0)
            started = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - started < 2.5
        with pytest.raises(Unavailable):
            await waiting

    async def test_it_may_end_before_it_began(self, redis_server: RedisServer) -> None:
        one = Member(redis_server.gateway_url)
        await one.bus.stop()
        assert not one.ok
