"""RedisBus while Redis is down, hangs, or cuts it off."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from shared.bus import counters
from shared.bus.channels import EVENTS
from shared.bus.errors import Unavailable
from tests.integration.bus.members import Member, member, until_heard
from tools.support.proxies.faults import FaultProxy
from tools.support.waiting import WAIT_SECONDS, until

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from tools.support.processes.redis import RedisServer


class TestLostConnections:
    async def test_redis_absent_at_the_start_is_reported_and_recovered_from(
        self, redis_server: RedisServer
    ) -> None:
        redis_server.stop()
        with capture_logs() as logs:
            async with Member(redis_server.member_url).running() as peer:
                for _ in range(5):
                    with pytest.raises(Unavailable) as caught:
                        await peer.publish(EVENTS, b"")
                    assert (caught.value.reason, caught.value.dependency) == ("redis", "redis")
                await until(lambda: "Connection" in peer.bus.status()[1], "the reason is known")
                assert peer.bus.status()[0] is False
                assert peer.subscribed == 0
                redis_server.start()
                await until(lambda: peer.ok, "found by itself, with nothing to publish")
                assert (peer.subscribed, peer.publishing) == (1, 1)
                await until_heard(peer, b"there")
        events = [(log["event"], log["link"]) for log in logs]
        assert sorted(events) == sorted(
            (event, link)
            for event in ("bus_lost", "bus_back")
            for link in ("publisher", "subscription")
        )
        assert not any("latchkey:" in str(log) for log in logs)

    async def test_killed_subscriptions_are_renewed_within_a_second_and_reported(
        self, redis_server: RedisServer
    ) -> None:
        async with member(redis_server.member_url) as peer:
            loop = asyncio.get_running_loop()
            for n in range(2, 6):
                started = loop.time()
                redis_server.call("CLIENT", "KILL", "TYPE", "pubsub")
                await until(lambda n=n: peer.subscribed == n, "subscribed again")  # type: ignore[misc]
                assert loop.time() - started < 1.0
                await until_heard(peer, b"%d" % n)

    async def test_a_killed_idle_publisher_loses_nothing(self, redis_server: RedisServer) -> None:
        async with member(redis_server.member_url) as peer:
            for _ in range(5):
                assert await peer.publish(EVENTS, b"") == 1
                redis_server.call("CLIENT", "KILL", "TYPE", "normal")
                publishing = peer.bus._publisher.connection
                assert publishing is not None
                await asyncio.wait_for(asyncio.shield(publishing.lost), WAIT_SECONDS)
            await until(lambda: len(peer.messages) == 5, "all came")

    async def test_publishers_killed_under_load_fail_or_publish_and_never_hang(
        self, redis_server: RedisServer
    ) -> None:
        async with member(redis_server.member_url) as peer:
            done, failed = 0, 0
            for n in range(600):
                if n % 100 == 50:
                    redis_server.call("CLIENT", "KILL", "TYPE", "normal")
                results = await asyncio.gather(
                    *(peer.publish(EVENTS, b"%d" % n) for _ in range(3)), return_exceptions=True
                )
                done += results.count(1)
                failed += sum(isinstance(result, Unavailable) for result in results)
            assert done + failed == 1800
            assert done > 900
            await until(lambda: len(peer.messages) >= done, "what was confirmed came")

    async def test_messages_arrive_again_after_a_restart_of_redis(
        self, redis_server: RedisServer
    ) -> None:
        async with member(redis_server.member_url) as peer:
            for n in range(2):
                redis_server.restart()
                await until_heard(peer, b"after restart %d" % n)
            assert peer.subscribed == 3
            assert peer.ok

    async def test_a_subscription_cut_for_its_output_buffer_recovers(
        self, redis_server: RedisServer, admin: Redis
    ) -> None:
        limit: Any = await admin.config_get("client-output-buffer-limit")
        async with member(redis_server.member_url) as peer, member(redis_server.member_url) as two:
            await admin.config_set("client-output-buffer-limit", "pubsub 1mb 1kb 1")
            try:
                await two.publish(peer.channel, bytes(3 * 1024 * 1024))
                await until(lambda: peer.subscribed == 2, "subscribed again")
            finally:
                await admin.config_set(
                    "client-output-buffer-limit", limit["client-output-buffer-limit"]
                )
            await until_heard(peer, b"goes on")

    async def test_an_unknown_user_is_named_without_its_password(
        self, redis_server: RedisServer
    ) -> None:
        user, _, rest = redis_server.member_url.partition("@")
        password = user.rpartition(":")[2]
        url = f"{user}wrong@{rest}"
        with capture_logs() as logs:
            async with Member(url).running() as peer:
                await until(lambda: "Authentication" in peer.bus.status()[1], "refused")
                with pytest.raises(Unavailable) as caught:
                    await peer.publish(EVENTS, b"")
        assert password not in f"{logs} {caught.value} {peer.bus.status()}"

    @pytest.mark.parametrize("link", ["subscription", "publisher"])
    async def test_when_one_connection_works_again_the_other_waits_no_longer(
        self, redis_server: RedisServer, link: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Otherwise each would probe by itself, and the later one would decide."""
        async with member(redis_server.member_url) as peer:
            monitors = {
                "subscription": peer.bus._subscription,
                "publisher": peer.bus._publishing,
            }
            slow = monitors[link]
            failed = slow.failed

            def pause_for_ever(error: Exception) -> float:
                failed(error)
                return 3600.0

            monkeypatch.setattr(slow, "failed", pause_for_ever)
            redis_server.stop()
            with pytest.raises(Unavailable):
                await peer.publish(EVENTS, b"")  # only then does an idle publisher notice
            await until(lambda: all(one.trouble for one in monitors.values()), "both are lost")
            redis_server.start()
            await until(lambda: peer.ok, "both work")
            await until_heard(peer, b"there")


class TestSilence:
    async def test_r14_without_any_message_the_connection_is_replaced(
        self, redis_server: RedisServer
    ) -> None:
        with capture_logs() as logs:
            async with member(redis_server.member_url, silence_seconds=0.3) as peer:
                await until(lambda: peer.subscribed == 4, "subscribed again three times")
                assert peer.counts[counters.CONNECTIONS_LOST, "subscription", "silence"] == 3
                assert peer.bus.status() == (True, "subscribed"), "Redis is not to blame"
                assert [log["event"] for log in logs] == ["bus_lost"], "said once"
                assert logs[0]["error"] == "no message for 0.3 s"
                await until_heard(peer, b"at last")
            assert [log["event"] for log in logs] == ["bus_lost", "bus_back"]

    async def test_r14_messages_keep_it_and_garbage_does_too(
        self, redis_server: RedisServer, admin: Redis
    ) -> None:
        async with member(redis_server.member_url, silence_seconds=2) as peer:
            for n in range(12):
                await asyncio.sleep(0.2)
                await (peer.publish(EVENTS, b"") if n % 2 else admin.publish(EVENTS, b"garbage"))
            assert peer.subscribed == 1
            assert peer.ok

    async def test_a_paused_redis_is_noticed_and_found_again_when_it_goes_on(
        self, redis_server: RedisServer
    ) -> None:
        async with member(redis_server.member_url, silence_seconds=0.3) as peer:
            await until_heard(peer, b"before")
            redis_server.pause()
            started = asyncio.get_running_loop().time()
            with pytest.raises(Unavailable):
                await peer.publish(EVENTS, b"lost")
            assert asyncio.get_running_loop().time() - started < 2.5
            await until(lambda: not peer.ok, "noticed")
            redis_server.resume()
            await until_heard(peer, b"after")
            assert peer.ok
            assert peer.subscribed >= 2

    async def test_a_black_holed_connection_is_noticed(self, redis_server: RedisServer) -> None:
        async with FaultProxy(redis_server.port) as relay:
            url = redis_server.member_url.replace(f":{redis_server.port}", f":{relay.port}")
            async with member(url, silence_seconds=0.3) as peer:
                await until_heard(peer, b"before")
                relay.swallow()
                subscribed = peer.subscribed
                await until(lambda: peer.subscribed > subscribed, "reopened")
                await until_heard(peer, b"after")
