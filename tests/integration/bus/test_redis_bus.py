"""RedisBus on a real Redis: what it publishes, accepts and leaves behind."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from shared.bus import counters
from shared.bus.channels import EVENTS
from shared.bus.errors import Unavailable
from tests.integration.bus.members import Member, member, until_heard, until_holds
from tools.support.waiting import until

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from shared.bus.envelope import Opened
    from tools.support.processes.redis import RedisServer


class TestPublishing:
    async def test_with_no_more_rights_than_a_gateway_has(self, redis_server: RedisServer) -> None:
        async with (
            member(redis_server.member_url) as peer,
            member(redis_server.member_url) as two,
        ):
            assert await two.publish(peer.channel, b"answer") == 1
            assert await two.publish(EVENTS, b"news") == 2
            await until(lambda: len(peer.messages) == 2, "both came")
            assert peer.messages == [(peer.channel, b"answer"), (EVENTS, b"news")]
            assert peer.bus.status() == (True, "subscribed")
            assert peer.subscribed == 1

    async def test_publishing_without_subscribers_reaches_nobody(
        self, redis_server: RedisServer
    ) -> None:
        async with member(redis_server.member_url) as peer:
            assert await peer.publish("latchkey:ask:nobody", b"") == 0

    async def test_the_order_of_the_calls_is_kept(self, redis_server: RedisServer) -> None:
        async with member(redis_server.member_url) as peer, member(redis_server.member_url) as two:
            bodies = [b"%d" % n for n in range(2000)]
            counts = await asyncio.gather(*(two.publish(peer.channel, body) for body in bodies))
            assert set(counts) == {1}
            await until(lambda: len(peer.messages) == len(bodies), "all came")
            assert peer.bodies() == bodies

    async def test_what_waits_travels_in_one_round_trip(
        self, redis_server: RedisServer, admin: Redis
    ) -> None:
        async with member(redis_server.member_url) as peer:
            await peer.publish(EVENTS, b"")
            before: Any = await admin.info("stats")
            await asyncio.gather(*(peer.publish(EVENTS, b"%d" % n) for n in range(200)))
            after: Any = await admin.info("stats")
            reads = after["total_reads_processed"] - before["total_reads_processed"]
            assert reads < 20

    async def test_a_channel_it_has_no_right_to_is_unavailable_and_said_once(
        self, redis_server: RedisServer
    ) -> None:
        async with member(redis_server.member_url) as peer:
            with capture_logs() as logs:
                for _ in range(3):
                    with pytest.raises(Unavailable) as caught:
                        await peer.publish("not-ours", b"")
                    assert caught.value.dependency == "redis"
            assert [log["event"] for log in logs] == ["bus_lost"]
            assert "permissions" in logs[0]["error"]
            assert not peer.ok
            await until_heard(peer, b"a channel it may use")
            assert peer.ok


class TestTheReaderLives:
    async def test_garbage_on_its_channels_is_dropped(
        self, redis_server: RedisServer, admin: Redis
    ) -> None:
        async with member(redis_server.member_url) as peer:
            stranger = Member(redis_server.member_url, secrets=["another secret of 32 characters!"])
            sealed = peer.envelope.seal(peer.channel, b"our own")
            news = peer.envelope.seal(EVENTS, b"once")
            garbage: list[tuple[str, bytes]] = [
                (peer.channel, b""),
                (peer.channel, b"\x01"),
                (peer.channel, bytes(10_000_000)),
                (peer.channel, b"\xdd\xff\xff\xff\xff"),
                (EVENTS, stranger.envelope.seal(EVENTS, b"")),
                (peer.channel, news),
                (peer.channel, sealed),
                (EVENTS, news),
                (EVENTS, news),
            ]
            for channel, data in garbage:
                await admin.publish(channel, data)
            await until(lambda: len(peer.rejected) == 8, "all are counted")
            assert peer.rejected == [
                "unsealed",
                "unsealed",
                "oversized",
                "unsealed",
                "unsealed",
                "unsealed",
                "self",
                "replayed",
            ]
            assert peer.bodies(EVENTS) == [b"once"]
            assert peer.subscribed == 1

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
            async with Fragile(redis_server.member_url).running() as peer:
                await until(lambda: peer.ok, "subscribed")
                await peer.publish(EVENTS, b"device token")
                await peer.publish(EVENTS, b"next")
                await until(lambda: len(peer.messages) == 2, "the next came")
                assert peer.counts[counters.MESSAGES_FAILED,] == 1
                assert peer.subscribed == 1
        assert [log["event"] for log in logs] == ["bus_subscribed_failed", "bus_message_failed"]
        assert "device token" not in str(logs)
        assert logs[1]["sender"] == peer.boot_id


class TestStop:
    async def test_what_waits_is_published_and_both_connections_are_closed(
        self, redis_server: RedisServer, admin: Redis
    ) -> None:
        async with member(redis_server.member_url) as two:
            async with member(redis_server.member_url) as peer:
                last = [
                    asyncio.ensure_future(peer.publish(two.channel, b"%d" % n)) for n in range(9)
                ]
                await asyncio.sleep(0)
            assert [await future for future in last] == [1] * 9
            await until(lambda: len(two.messages) == 9, "all came")
            with pytest.raises(Unavailable):
                await peer.publish(EVENTS, b"")
            assert not peer.ok
            name = f"latchkey-{peer.boot_id[:8]}"

            async def left() -> bool:
                clients: Any = await admin.client_list()
                return all(client["name"] != name for client in clients)

            await until_holds(left)

    async def test_a_redis_that_hangs_does_not_hold_it_up(self, redis_server: RedisServer) -> None:
        peer = Member(redis_server.member_url)
        async with peer.running():
            await until(lambda: peer.ok, "subscribed")
            redis_server.pause()
            waiting = asyncio.ensure_future(peer.publish(EVENTS, b""))
            await asyncio.sleep(0)
            started = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - started < 2.5
        with pytest.raises(Unavailable):
            await waiting

    async def test_it_may_end_before_it_began(self, redis_server: RedisServer) -> None:
        peer = Member(redis_server.member_url)
        await peer.bus.stop()
        assert not peer.ok
