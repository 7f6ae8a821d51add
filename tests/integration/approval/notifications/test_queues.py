"""Queues and lease in Redis: bounds, who is dropped, fencing, and the operations of the API."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any

import pytest

from services.approval.notifications import event as events
from services.approval.notifications.collecting import collect, member_of
from services.approval.notifications.event import Event
from services.approval.storage.webhooks import QUEUE_LIMIT, WebhookStore
from shared.rpc.messages import SHARED_SECRET
from tests.integration.approval.notifications.delivering import delivering, settings_of
from tests.integration.approval.operator import Operator
from tests.integration.approval.replica import replica
from tests.support.approval.devices import READ, Device
from tests.support.webhook_receiver import Receiver, new_secret

if TYPE_CHECKING:
    from tests.integration.approval.replica import Replica
    from tools.support.processes.redis import RedisServer

TARGET = "t" * 32


def member(kind: str, number: int) -> bytes:
    """Return a member of the queue."""
    return member_of(Event(id=f"m{number}", type=kind, at_ms=number))


def another(here: Replica) -> WebhookStore:
    """Return the queues as another process sees them."""
    return WebhookStore(here.store.client, secrets.token_hex(8))


async def ids(here: Replica, target: str = TARGET) -> list[str]:
    """Return the ids in a queue, in order."""
    found = await here.redis.zrange(f"latchkey:webhooks:queue:{target}", 0, -1)
    return [events.decode(one[1:]).id for one in found]


class TestFullQueue:
    async def test_the_oldest_about_waiting_devices_is_dropped_first(self, here: Replica) -> None:
        kinds = [events.WAITING, events.APPROVED] * (QUEUE_LIMIT // 2)
        for number, kind in enumerate(kinds):
            assert await here.queues.append([TARGET], member(kind, number)) == [0]
        assert await here.queues.append([TARGET], member(events.LOCKED_OUT, 5_000)) == [1]
        assert await here.queues.append([TARGET], member(events.WAITING, 5_001)) == [1]
        kept = await ids(here)
        assert len(kept) == QUEUE_LIMIT
        assert kept[:5] == ["m0", "m1", "m3", "m5", "m6"]  # the first one may be on its way
        waiting = await here.queues.waiting(TARGET)
        assert (waiting.record.dropped, waiting.record.missed) == (2, 2)

    async def test_without_any_the_oldest_is_dropped(self, here: Replica) -> None:
        for number in range(QUEUE_LIMIT + 3):
            await here.queues.append([TARGET], member(events.APPROVED, number))
        kept = await ids(here)
        assert (len(kept), kept[:3]) == (QUEUE_LIMIT, ["m0", "m4", "m5"])

    async def test_order_is_that_of_queueing_beyond_ten(self, here: Replica) -> None:
        for number in range(25):
            await here.queues.append([TARGET], member(events.APPROVED, number))
        assert await ids(here) == [f"m{number}" for number in range(25)]


class TestLease:
    async def test_only_the_holder_changes_anything(self, here: Replica) -> None:
        other = another(here)
        first = await here.queues.poll([TARGET], lease_ms=60_000)
        assert first.lease.endswith(":1")
        assert (await other.poll([TARGET])).lease == ""
        await here.queues.append([TARGET], member(events.TEST, 1))
        await here.redis.delete("latchkey:webhooks:lease")  # it expires while its holder is paused
        second = await other.poll([TARGET])
        assert second.lease.endswith(":2")
        only = (await other.waiting(TARGET)).first
        for lease, done in ((first.lease, False), (second.lease, True)):
            settled = await here.queues.settle(lease, TARGET, remove=only, fields={}, add={})
            assert settled is done
            assert await ids(here) == ([] if done else ["m1"])

    async def test_a_change_is_queued_once_whoever_queues_it(self, here: Replica) -> None:
        poll = await here.queues.poll([TARGET])
        await here.request(Device.new().asks(READ))
        poll = await here.queues.poll([TARGET])
        found = collect(poll, None)
        members = [member_of(one) for one in found.events]
        arguments: dict[str, Any] = {"reached": found.reached, "lockouts_ms": found.lockouts_ms}
        assert await here.queues.enqueue(poll, [TARGET], members, **arguments) == ("done", [0])
        assert await here.queues.enqueue(poll, [TARGET], members, **arguments) == ("stale", [])
        await here.redis.delete("latchkey:webhooks:lease")
        await another(here).poll([TARGET])
        assert await here.queues.enqueue(poll, [TARGET], members, **arguments) == ("fenced", [])
        assert len(await ids(here)) == 1

    async def test_a_clock_that_was_set_back_hides_no_lock_out(self, here: Replica) -> None:
        await here.queues.poll([TARGET])
        await here.redis.hset("latchkey:webhooks:state", "lockouts", "99999999999999")
        await here.queues.poll([TARGET])
        for number in range(12):
            await here.store.lockouts.count("203.0.113.7", {SHARED_SECRET: [f"wrong {number}"]})
        async with asyncio.timeout(10):
            while not (poll := await here.queues.poll([TARGET])).lockouts:  # noqa: ASYNC110 (Redis)
                await asyncio.sleep(0.01)
        assert [one.address for one in poll.lockouts] == ["203.0.113.7"]

    async def test_giving_it_up_leaves_that_of_another(self, here: Replica) -> None:
        other = another(here)
        lease = (await here.queues.poll([TARGET])).lease
        await other.release("other:1")
        assert (await other.poll([TARGET])).lease == ""
        await here.queues.release(lease)
        assert (await other.poll([TARGET])).lease != ""

    @pytest.mark.parametrize("key", ["lease", "state", f"queue:{TARGET}", f"target:{TARGET}"])
    async def test_a_key_of_another_type_is_replaced(self, here: Replica, key: str) -> None:
        await here.redis.xadd(f"latchkey:webhooks:{key}", {"a": "b"})
        poll = await here.queues.poll([TARGET])
        assert poll.lease
        await here.queues.append([TARGET], member(events.TEST, 1))
        assert await here.queues.settle(
            poll.lease, TARGET, fields={"error": "e"}, add={"given_up": 1}
        )
        assert (await here.queues.waiting(TARGET)).record.given_up == 1


class TestApi:
    async def test_targets_are_listed_without_their_addresses(
        self, redis_server: RedisServer
    ) -> None:
        async with (
            replica(
                redis_server.approval_url,
                WEBHOOK_TARGETS="slack+https://hooks.slack.com/services/hidden,ntfy+https://ntfy.sh/hidden",
            ) as here,
            Operator(here) as operator,
        ):
            reply = await operator.get("/v1/webhooks")
            assert reply.ok()["webhooks"] == [
                {"name": "slack-1", "format": "slack", "host": "hooks.slack.com"},
                {"name": "ntfy-1", "format": "ntfy", "host": "ntfy.sh"},
            ]
            assert "hidden" not in reply.text

    async def test_a_test_notification_is_delivered(self, redis_server: RedisServer) -> None:
        async with Receiver(new_secret()) as receiver:
            settings = settings_of(receiver)
            async with (
                delivering(redis_server.approval_url, settings),
                replica(
                    redis_server.approval_url,
                    WEBHOOK_TARGETS=f"json+{receiver.url()}",
                    WEBHOOK_SECRETS=receiver.secrets[0],
                    WEBHOOK_PRIVATE_ADDRESSES="yes",
                ) as here,
                Operator(here) as operator,
            ):
                await here.store.liveness.write_alive("replica")
                sent = (await operator.post("/v1/webhooks/json-1/test", {})).ok()
                await receiver.until_types("webhook.test")
                assert receiver.accepted[0].id == sent["notificationId"]
                while not (found := (await operator.get("/v1/webhooks")).ok()["webhooks"][0]).get(
                    "delivered"
                ):
                    pass
                assert found["lastDeliveredId"] == sent["notificationId"]
                unknown = await operator.post("/v1/webhooks/json-2/test", {})
                assert unknown.problem(404, "unknown-webhook") == {}
