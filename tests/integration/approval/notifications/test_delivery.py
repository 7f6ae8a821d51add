"""What is notified, and that targets which misbehave delay nothing else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import generate_latest
from structlog.testing import capture_logs

from services.approval.domain.authorization import OPERATOR, operator_caller
from services.approval.domain.permissions import Permission
from services.approval.notifications.poster import Outcome, Poster
from services.approval.notifications.resolver import CheckedResolver
from services.approval.notifications.retry import RetryPolicy
from services.approval.notifications.settings import WebhookSettings
from services.approval.notifications.signing import SigningKeys
from services.approval.notifications.targets import Target
from shared.rpc.messages import SHARED_SECRET
from tests.integration.approval.notifications.delivering import (
    POLICY,
    PUBLIC_URL,
    delivering,
    eventually,
    settings_for,
    settings_of,
)
from tests.support.approval.devices import READ, Device
from tests.support.webhook_receiver import Receiver, new_secret

if TYPE_CHECKING:
    from services.approval.notifications.event import Event
    from tests.integration.approval.replica import Replica
    from tools.support.processes.redis import RedisServer

HIDDEN = "hidden-path"
ATTEMPTS = "latchkey_approval_webhook_attempts_total"


@pytest.fixture(autouse=True)
async def _redis_time(here: Replica) -> None:
    """Have the replica learn Redis's time, as it does in service."""
    await here.store.liveness.write_alive("replica")


async def ask(here: Replica, **asked: Any) -> tuple[Device, str]:
    """Have a new device request pairing; return it and the request's id."""
    device = Device.new()
    return device, (await here.request(device.asks(READ, **asked))).request_id


async def test_each_change_arrives_once_signed_and_in_order(
    redis_server: RedisServer, here: Replica
) -> None:
    alice = operator_caller("alice", Permission.DECIDE)
    async with (
        Receiver(new_secret(), new_secret()) as receiver,
        delivering(redis_server.approval_url, settings_of(receiver)),
    ):
        device, request_id = await ask(here, name="Ann's phone")
        await here.registry.approve(alice, request_id)
        _other, second = await ask(here, name="<!channel>")
        await here.registry.reject(alice, second)
        await here.registry.rename(alice, device.device_id, "renamed")  # is not notified
        await here.registry.remove(alice, device.device_id)
        types = ["waiting", "approved", "waiting", "rejected", "removed"]
        await receiver.until_types(*(f"device.{one}" for one in types))
        waiting, approved, _waiting, rejected, removed = (one.data for one in receiver.accepted)
        assert waiting["name"] == "Ann's phone"
        assert waiting["deviceId"] == device.device_id
        assert waiting["link"] == f"{PUBLIC_URL}/setup#request={request_id}"
        assert "actor" not in waiting
        assert approved["actor"] == rejected["actor"] == removed["actor"] == "operator:alice"
        assert approved["name"] == "Ann's phone"
        assert rejected["name"] == "<!channel>"
        assert removed["name"] == "renamed"
        assert len({one.id for one in receiver.received}) == 5


async def test_a_lock_out_is_notified_once(redis_server: RedisServer, here: Replica) -> None:
    async with (
        Receiver(new_secret()) as receiver,
        delivering(redis_server.approval_url, settings_of(receiver)),
    ):
        for number in range(12):
            wrong = {SHARED_SECRET: [f"wrong {number}"]}
            await here.store.lockouts.count("203.0.113.7", wrong)
        await receiver.until_types("lockout.started")
        await ask(here)
        await receiver.until_types("lockout.started", "device.waiting")
        data = receiver.accepted[0].data
        assert (data["address"], data["credential"]) == ("203.0.113.7", SHARED_SECRET)


async def test_a_new_history_is_notified(redis_server: RedisServer, here: Replica) -> None:
    async with (
        Receiver(new_secret()) as receiver,
        delivering(redis_server.approval_url, settings_of(receiver)),
    ):
        await ask(here)
        await receiver.until_types("device.waiting")
        await here.redis.delete("latchkey:changes")
        await ask(here)
        await receiver.until_types("device.waiting", "history.lost", "device.waiting")


async def test_the_loss_of_all_data_is_notified(redis_server: RedisServer, here: Replica) -> None:
    async with (
        Receiver(new_secret()) as receiver,
        delivering(redis_server.approval_url, settings_of(receiver)),
    ):
        await ask(here)
        await receiver.until_types("device.waiting")
        await here.redis.flushall()
        await receiver.until_types("device.waiting", "history.lost")
        await ask(here)
        await receiver.until_types("device.waiting", "history.lost", "device.waiting")


async def test_changes_while_no_replica_delivers_are_notified_later(
    redis_server: RedisServer, here: Replica
) -> None:
    async with Receiver(new_secret()) as receiver:
        settings = settings_of(receiver)
        _device, before = await ask(here)  # before the first start: not notified
        async with delivering(redis_server.approval_url, settings):
            pass
        await here.registry.approve(OPERATOR, before)
        await ask(here)
        async with delivering(redis_server.approval_url, settings):
            await receiver.until_types("device.approved", "device.waiting")


async def test_more_changes_than_one_poll_reads(redis_server: RedisServer, here: Replica) -> None:
    async with (
        Receiver(new_secret()) as receiver,
        delivering(redis_server.approval_url, settings_of(receiver)) as delivery,
    ):
        receiver.behaviour = 500
        devices = [Device.new() for _ in range(620)]
        for number, device in enumerate(devices):
            await here.request(device.asks(READ, address=f"198.51.{number % 250}.7"))
        receiver.behaviour = 200
        await receiver.until(lambda: len(receiver.accepted) >= 620)
        assert [one.data["deviceId"] for one in receiver.accepted] == [
            one.device_id for one in devices
        ]
        assert delivery.count("latchkey_approval_webhook_dropped_total", target="json-1") == 0


class TestTroubledTargets:
    """One target misbehaves, and the other gets everything at once."""

    @pytest.mark.parametrize(
        ("behaviour", "result"),
        [("hang", "timeout"), ("redirect", "redirected"), (500, "status"), (404, "status")],
    )
    async def test_it_is_tried_again_in_order_and_delays_nothing(
        self, redis_server: RedisServer, here: Replica, behaviour: int | str, result: str
    ) -> None:
        secret = new_secret()
        async with (
            Receiver(secret) as bad,
            Receiver(secret) as good,
            delivering(redis_server.approval_url, settings_of(bad, good)) as delivery,
        ):
            bad.behaviour = behaviour
            _device, request_id = await ask(here)
            await here.registry.approve(OPERATOR, request_id)
            await good.until_types("device.waiting", "device.approved")
            await bad.until(lambda: len(bad.received) >= 3)
            assert {one.type for one in bad.received} == {"device.waiting"}
            assert len({one.id for one in bad.received}) == 1
            assert delivery.count(ATTEMPTS, target="json-1", result=result) >= 2
            assert delivery.count(ATTEMPTS, target="json-2", result="delivered") == 2
            bad.behaviour = 200
            await bad.until_types("device.waiting", "device.approved")

    async def test_an_endless_body_is_cut_off(
        self, redis_server: RedisServer, here: Replica
    ) -> None:
        async with (
            Receiver(new_secret()) as receiver,
            delivering(redis_server.approval_url, settings_of(receiver)),
        ):
            receiver.behaviour = "endless"
            _device, request_id = await ask(here)
            await here.registry.approve(OPERATOR, request_id)
            await receiver.until_types("device.waiting", "device.approved")
            assert len(receiver.received) == 2

    async def test_nothing_listens(self, redis_server: RedisServer, here: Replica) -> None:
        async with Receiver(new_secret()) as gone:
            settings = settings_of(gone)
        async with delivering(redis_server.approval_url, settings) as delivery:
            await ask(here)
            await eventually(
                lambda: delivery.count(ATTEMPTS, target="json-1", result="connect") >= 3
            )

    async def test_it_is_given_up_after_a_day_and_the_target_learns_how_many(
        self, redis_server: RedisServer, here: Replica
    ) -> None:
        """A day is 0.4 s here."""
        day = RetryPolicy(first_ms=20, most_ms=50, give_up_ms=400)
        async with (
            Receiver(new_secret()) as receiver,
            delivering(redis_server.approval_url, settings_of(receiver), policy=day) as delivery,
        ):
            receiver.behaviour = 500
            await ask(here)
            await ask(here)
            name = "latchkey_approval_webhook_dropped_total"
            await eventually(lambda: delivery.count(name, target="json-1", reason="given-up") >= 2)
            receiver.behaviour = 200
            await ask(here)
            await receiver.until_types("device.waiting", "notifications.missed")
            assert receiver.accepted[-1].data["missed"] == 2

    async def test_what_the_target_cannot_accept_does_not_block_the_rest(
        self, redis_server: RedisServer, here: Replica
    ) -> None:
        async with (
            Receiver(new_secret()) as receiver,
            delivering(redis_server.approval_url, settings_of(receiver)),
        ):
            receiver.behaviour = 400
            await ask(here)
            await receiver.until(lambda: len(receiver.received) == POLICY.unacceptable_attempts)
            receiver.behaviour = 200
            _device, request_id = await ask(here)
            await receiver.until(lambda: bool(receiver.accepted))
            assert receiver.accepted[0].data["requestId"] == request_id


async def test_a_clock_that_was_set_back_delays_nothing(
    redis_server: RedisServer, here: Replica
) -> None:
    """The time of the next attempt was recorded while the clock was an hour ahead."""
    async with Receiver(new_secret()) as receiver:
        receiver.behaviour = 500
        settings = settings_of(receiver)
        key = f"latchkey:webhooks:target:{settings.targets[0].key}"
        slow = RetryPolicy(first_ms=2_000, most_ms=2_000)
        async with delivering(redis_server.approval_url, settings, policy=slow):
            await ask(here)
            await receiver.until(lambda: bool(receiver.received))
            async with asyncio.timeout(5):
                while not (at_ms := int(await here.redis.hget(key, "retry_at_ms") or 0)):  # noqa: ASYNC110 (Redis)
                    await asyncio.sleep(0.01)
            receiver.behaviour = 200
            await here.redis.hset(key, "retry_at_ms", at_ms + 3_600_000)
            await receiver.until_types("device.waiting")


async def test_shutdown_ends_although_a_library_loses_a_cancellation(
    redis_server: RedisServer, here: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As aiohappyeyeballs does at the moment when one of several addresses connects."""
    lost: list[str] = []

    async def post(_poster: Poster, event: Event, _now_ms: int) -> Outcome:
        if not lost:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost.append(event.id)
        await asyncio.Event().wait()
        return Outcome("timeout")

    monkeypatch.setattr(Poster, "post", post)
    async with Receiver(new_secret()) as receiver:
        settings = settings_of(receiver)
    async with asyncio.timeout(20):
        async with delivering(redis_server.approval_url, settings) as delivery:
            await ask(here)
            await eventually(
                lambda: bool(delivery.count("latchkey_approval_webhook_queue", target="json-1"))
            )
    assert len(lost) == 1


async def test_no_log_line_or_metric_contains_an_address(
    redis_server: RedisServer, here: Replica
) -> None:
    def lookup(_host: str, _port: int) -> list[tuple[Any, ...]]:
        raise RuntimeError(HIDDEN)

    listed = [f"json+https://{one}.example/{HIDDEN}?token={HIDDEN}" for one in ("a", "b")]
    settings = settings_for(*listed, f"slack+http://127.0.0.1:1/{HIDDEN}")
    resolver = CheckedResolver(private_addresses=False, lookup=lookup)
    with capture_logs() as logs:
        async with delivering(redis_server.approval_url, settings, resolver=resolver) as delivery:
            await ask(here)
            await eventually(lambda: delivery.count(ATTEMPTS, target="json-1", result="name") >= 2)
            await eventually(
                lambda: delivery.count(ATTEMPTS, target="slack-1", result="connect") >= 2
            )
            exposed = generate_latest(delivery.metrics.registry).decode()
        recorded = [(await delivery_record(here, one.key)) for one in settings.targets]
    assert [one for one in logs if one["event"] == "webhook.failing"]
    assert HIDDEN not in f"{logs}{exposed}{recorded}"


async def delivery_record(here: Replica, key: str) -> str:
    """Return what is stored about a target."""
    return str(await here.redis.hgetall(f"latchkey:webhooks:target:{key}"))


class TestPrivateAddresses:
    """A public name that resolves to a private address is not connected to."""

    async def attempt(
        self, redis_server: RedisServer, here: Replica, receiver: Receiver, *addresses: str
    ) -> None:
        """Notify a name with these addresses until one was refused."""

        def lookup(_host: str, port: int) -> list[tuple[Any, ...]]:
            return [(2, 1, 6, "", (address, port)) for address in addresses]

        target = Target("json-1", "json", "a.example", "k", f"http://a.example:{receiver.port}/")
        settings = WebhookSettings((target,), SigningKeys((b"k" * 32,)))
        resolver = CheckedResolver(private_addresses=False, lookup=lookup)
        async with delivering(redis_server.approval_url, settings, resolver=resolver) as delivery:
            await ask(here)
            await eventually(
                lambda: delivery.count(ATTEMPTS, target="json-1", result="private-address") >= 1
            )

    @pytest.mark.parametrize("first", ["127.0.0.1", "93.184.215.14"])
    async def test_one_private_address_is_enough(
        self, redis_server: RedisServer, here: Replica, first: str
    ) -> None:
        async with Receiver() as receiver:
            addresses = (first, "127.0.0.1")
            await self.attempt(redis_server, here, receiver, *addresses)
            assert receiver.received == []


@pytest.mark.parametrize("form", ["slack", "discord", "ntfy"])
async def test_other_formats_are_delivered(
    redis_server: RedisServer, here: Replica, form: str
) -> None:
    async with Receiver(new_secret()) as receiver:
        settings = settings_for(f"{form}+{receiver.url('topic')}", keys=receiver.secrets)
        async with delivering(redis_server.approval_url, settings):
            _device, request_id = await ask(here, name="@everyone")
            await receiver.until(lambda: bool(receiver.accepted))
            sent = str(receiver.accepted[0].data)
            assert f"{PUBLIC_URL}/setup#request={request_id}" in sent
            assert ("'topic': 'topic'" in sent) == (form == "ntfy")
