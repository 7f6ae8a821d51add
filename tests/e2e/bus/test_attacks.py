"""Attackers that hold the Redis URL, and replicas that share a replica id."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from typing import TYPE_CHECKING, Final

import msgspec
import pytest

from shared.bus.channels import EVENTS, inbox_channel, new_boot_id
from shared.bus.envelope import MESSAGE_LIMIT_BYTES, Envelope
from shared.rpc.codec import Answers, Item, ItemAnswer, Questions, decode_answers, decode_questions
from shared.rpc.codec import encode as encode_items
from shared.rpc.messages import Admitted, Changed, Position, encode
from tests.e2e.bus.intruder import Intruder, captured, channels, redis_client
from tests.e2e.metrics import Counts, counted
from tests.support.approval.devices import Device
from tools.support.actors import Operator, SimulatedDevice, pair
from tools.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.conftest import StartStack
    from tools.support.processes.stack import Stack

BOMB: Final = b"\x91" * 200_000 + b"\xc0"
"""msgpack: deeply nested arrays."""
HUGE_MAP: Final = b"\xdf\xff\xff\xff\xff"
EXTENSION: Final = b"\xc7\x05\x01extra"
FORGED_IDS: Final = range(1, 200)

pytestmark = pytest.mark.usefixtures("check_health")


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    """Two approvals and two gateways with the same replica id, for the whole module."""
    return start_stack(approvals=2, gateways=2, env={"RAILWAY_REPLICA_ID": "the-same-for-all"})


@pytest.fixture(params=["with the services' rights", "with all rights"])
async def intruder(stack: Stack, request: pytest.FixtureRequest) -> AsyncIterator[Intruder]:
    """Return an attacker with every Redis URL but without BUS_SECRET."""
    redis = stack.redis
    urls = (redis.gateway_url, redis.approval_url)
    entry = Intruder(*urls) if "services" in request.param else Intruder(*[redis.admin_url] * 2)
    yield entry
    await entry.aclose()


class TestForgedBusMessages:
    async def test_what_is_not_sealed_by_us_is_dropped_and_counted(
        self, stack: Stack, intruder: Intruder
    ) -> None:
        stranger = Envelope(("another secret of 32 characters.",), new_boot_id())
        victim = await pair(stack)
        question = encode(Device.new().asks())
        removed = Changed(Position(10**6, "x"), "", victim.device_id, "removed", 1, ["*"])
        forgeries = {
            "ask": encode_items(Questions([Item(1, msgspec.Raw(question))])),
            "inbox": encode_items(
                Answers([ItemAnswer(number, "ok", msgspec.Raw(YES)) for number in FORGED_IDS])
            ),
            "events": encode(removed),
        }
        counts = await Counts(stack.services, "rejected-unsealed").start()
        client, _ = await victim.stay_connected(stack.gateways[0])
        async with client:
            sent = 0
            for channel in (*channels(stack), EVENTS):
                forged = forgeries[channel.split(":")[1]]
                sealed = stranger.seal(channel, forged)
                for data in (
                    *(b"", b"\x01", os.urandom(60), os.urandom(100_000), forged),
                    *(sealed, sealed[:-1], b"\x00" + sealed[1:], b"\xff" + sealed[1:]),
                ):
                    assert await intruder.publish(channel, data) == (
                        len(stack.services) if channel == EVENTS else 1
                    )
                    sent += channel == EVENTS
            await counts.until(sent * 2)
            assert (await client.call("health")).ok
        await self.goes_on(stack, victim)

    async def test_ten_megabytes_are_not_even_opened(
        self, stack: Stack, intruder: Intruder
    ) -> None:
        victim = await pair(stack)
        counts = await Counts(stack.services, "rejected-oversized").start()
        for channel in (*channels(stack), EVENTS):
            await intruder.publish(channel, os.urandom(10_000_000))
            await intruder.publish(channel, bytes(MESSAGE_LIMIT_BYTES + 1))
        await counts.until(4)
        await self.goes_on(stack, victim)

    async def test_what_was_captured_is_worth_nothing_anywhere(
        self, stack: Stack, intruder: Intruder
    ) -> None:
        victim = await pair(stack)
        async with captured(stack) as messages:
            client, _ = await victim.stay_connected(stack.gateways[0])
            await victim.connect_once(stack.gateways[1], with_gateway_token=False)
            async with client, Operator(stack, stack.approvals[0]) as operator:
                (await operator.remove(victim.device_id)).ok()
                await client.closed(within=5)
                (await operator.approve(await victim.request_pairing(stack.gateways[0]))).ok()
            own = channels(stack)
            await until(
                lambda: own.keys() <= {channel for channel, _ in messages}, "each is told something"
            )
        events = [data for channel, data in messages if channel == EVENTS]
        assert set(own) | {EVENTS} == {channel for channel, _ in messages}

        client, _ = await victim.stay_connected(stack.gateways[1])
        async with client, Operator(stack, stack.approvals[1]) as operator:
            audit = await operator.audit(victim.device_id)
            for service in stack.services:
                replays = [data for channel, data in messages if own.get(channel) is service]
                replayed = await Counts([service], "rejected-replayed").start()
                unsealed = await Counts([service], "rejected-unsealed").start()
                (channel,) = [name for name, item in own.items() if item is service]
                for data in replays:
                    await intruder.publish(channel, data)
                await replayed.until(len(replays))
                elsewhere = [data for name, data in messages if name != channel]
                for data in elsewhere:
                    await intruder.publish(channel, data)
                await unsealed.until(len(elsewhere))
            replayed = await Counts(stack.services, "rejected-replayed").start()
            for data in events:
                await intruder.publish(EVENTS, data)
            await replayed.until(len(events))
            assert await operator.audit(victim.device_id) == audit
            # The removal is among the replayed messages.
            assert (await client.call("health")).ok
        await self.goes_on(stack, victim)

    async def test_no_forged_answer_admits_anybody(self, stack: Stack, intruder: Intruder) -> None:
        """While a request is open: the right ids, sealed wrongly or by the wrong replica."""
        gateway = stack.gateways[0]
        inbox = inbox_channel(gateway.boot_id)
        answers = encode_items(
            Answers([ItemAnswer(number, "ok", msgspec.Raw(YES)) for number in FORGED_IDS])
        )
        outsider = Envelope(("another secret of 32 characters.",), stack.approvals[0].boot_id)
        member = Envelope((stack.bus_secret,), new_boot_id())
        for approval in stack.approvals:
            approval.pause()
        device = SimulatedDevice(stack)
        connecting = asyncio.create_task(device.expect_refusal(gateway))
        while not connecting.done():
            await intruder.publish(inbox, outsider.seal(inbox, answers))
            await intruder.publish(inbox, member.seal(inbox, answers))
            await asyncio.sleep(0.01)
        assert (await connecting).code == "UNAVAILABLE"
        assert await counted(gateway, "answers_dropped-stranger") > 0

    async def test_a_members_nonsense_ends_no_service(self, stack: Stack) -> None:
        """Bodies sealed with the right secret that are not valid messages."""
        victim = await pair(stack)
        member = Envelope((stack.bus_secret,), new_boot_id())
        bodies = [
            *(b"", b"\xc1", BOMB, HUGE_MAP, EXTENSION, b"\x90", b"\xc0", os.urandom(500)),
            msgspec.msgpack.encode([[[1, {"a": 2}]]]),
            msgspec.msgpack.encode([[[1, "ok", {"tag": "none"}]] * 300]),
            msgspec.msgpack.encode(["weather", "fine"]),
        ]
        client = Intruder(stack.redis.gateway_url, stack.redis.approval_url)
        async with contextlib.aclosing(client):
            asks = await Counts(stack.approvals, "questions_dropped-malformed").start()
            inboxes = await Counts(stack.gateways, "answers_dropped-malformed").start()
            malformed = await Counts(stack.gateways, "malformed-news").start()
            for channel in (*channels(stack), EVENTS):
                for body in bodies:
                    await client.publish(channel, member.seal(channel, body))
            await malformed.until(len(bodies))
            await asks.until(sum(not is_sound(decode_questions, body) for body in bodies))
            await inboxes.until(sum(not is_sound(decode_answers, body) for body in bodies))
        await self.goes_on(stack, victim)

    async def goes_on(self, stack: Stack, victim: SimulatedDevice) -> None:
        """Check that paired devices are admitted and unpaired ones become pending."""
        for gateway in stack.gateways:
            for _ in range(2):
                await victim.connect_once(gateway)
            await SimulatedDevice(stack).request_pairing(gateway)


YES: Final = encode(Admitted(Position(1, "t"), "forged token", ["operator.admin"], 1))


def is_sound(decode: Callable[[bytes], object], body: bytes) -> bool:
    """Return whether these bytes are a valid message that has no effect."""
    try:
        decode(body)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True


class TestReplicasKeepTheirOwnChannels:
    async def test_each_replica_has_its_channel_to_itself(self, stack: Stack) -> None:
        assert len({service.boot_id for service in stack.services}) == len(stack.services)
        assert all(re.fullmatch("[0-9a-f]{32}", service.boot_id) for service in stack.services)
        client = redis_client(stack.redis.admin_url)
        async with contextlib.aclosing(client):
            listening = await client.pubsub_numsub(*channels(stack))
            everybody = await client.pubsub_numsub(EVENTS)
        assert [count for _channel, count in listening] == [1] * len(stack.services)
        assert [count for _channel, count in everybody] == [len(stack.services)]

    async def test_answers_find_the_gateway_that_asked(self, stack: Stack) -> None:
        devices = [await pair(stack) for _ in range(3)]
        unknown = await Counts(stack.gateways, "answers_dropped-unknown").start()
        strangers = await Counts(stack.gateways, "answers_dropped-stranger").start()
        outcomes = await asyncio.gather(
            *(
                device.connect_once(gateway)
                for _ in range(10)
                for device in devices
                for gateway in stack.gateways
            )
        )
        tokens = {outcome.device_token for outcome in outcomes}
        assert tokens == {device.token for device in devices}
        await unknown.until(0)
        await strangers.until(0)
