"""Whoever holds the Redis URL, and replicas of other releases (design §3; attacks 30, 31, 38)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import msgspec
import pytest
import redis.asyncio as redis_asyncio

from shared.bus.channels import NEWS, ask_channel, inbox_channel, new_boot_id
from shared.bus.envelope import MESSAGE_LIMIT_BYTES, VERSION, Envelope
from shared.bus.wire import (
    Answers,
    Item,
    ItemAnswer,
    Questions,
    decode_answers,
    decode_questions,
)
from shared.bus.wire import encode as encode_items
from shared.device.identity import DeviceKey
from shared.messages import (
    Admission,
    Admitted,
    Change,
    Changed,
    ClientInfo,
    NeedsPairing,
    encode,
)
from tests.e2e.people import Operator, Visitor, approvals_heard, pair, told
from tests.support.peers import DEVICE_TOKEN, FakeApproval, FakeGateway
from tests.support.waiting import WAIT_SECONDS, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from shared.bus.responder import Reply
    from shared.messages import BeatQuestion, Knock
    from tests.conftest import StartStack
    from tests.support.service import ServiceProcess
    from tests.support.stack import Stack

BOMB: Final = b"\x91" * 200_000 + b"\xc0"
"""msgpack: an array in an array in an array …"""
HUGE_MAP: Final = b"\xdf\xff\xff\xff\xff"
EXTENSION: Final = b"\xc7\x05\x01extra"
FORGED_IDS: Final = range(1, 200)


@pytest.fixture(scope="module")
def house(start_stack: StartStack) -> Stack:
    """Two approvals and two gateways that the platform calls by one name, for the whole module."""
    return start_stack(approvals=2, gateways=2, env={"RAILWAY_REPLICA_ID": "the-same-for-all"})


@pytest.fixture(autouse=True)
def _unharmed(house: Stack) -> Iterator[None]:
    """Look, after each test, whether the services took any harm."""
    yield
    for approval in house.approvals:
        approval.resume()
    for service in house.services:
        service.wait_ready()
        for line in service.logs():
            assert line["event"] not in {"bus_message_failed", "bus_handler_failed"}, line
            assert line["level"] != "error", line
            assert "exception" not in line, line


def channels(house: Stack) -> dict[str, ServiceProcess]:
    """Return the channel that each service alone listens on."""
    return {
        **{ask_channel(one.boot_id): one for one in house.approvals},
        **{inbox_channel(one.boot_id): one for one in house.gateways},
    }


async def counted(service: ServiceProcess, event: str) -> int:
    """Return how often a service has counted this event of the bus."""
    async with aiohttp.ClientSession() as http, http.get(f"{service.url}/metrics") as answer:
        text = await answer.text()
    found = re.search(rf'_bus_total{{event="{re.escape(event)}"}} (\d+)', text)
    return int(found[1]) if found else 0


class Counts:
    """What the services have counted since it was made."""

    def __init__(self, services: list[ServiceProcess], event: str) -> None:
        self._services = services
        self._event = event
        self._before: list[int] = []

    async def start(self) -> Counts:
        """Look at where the counters stand."""
        self._before = [await counted(one, self._event) for one in self._services]
        return self

    async def until(self, more: int) -> None:
        """Wait until each has counted so many more."""
        for service, before in zip(self._services, self._before, strict=True):
            deadline = time.monotonic() + WAIT_SECONDS
            while (now := await counted(service, self._event) - before) < more:
                assert time.monotonic() < deadline, f"{service.name}: {now} of {more}"
            assert now == more, service.name


def redis_client(url: str) -> redis_asyncio.Redis:
    return redis_asyncio.Redis.from_url(url, protocol=2)


class Intruder:
    """Somebody who holds Redis URLs: a channel is reached with the rights of who may publish there.

    A gateway may ask, and approval may answer and tell news; an administrator may do anything.
    """

    def __init__(self, asking: str, answering: str) -> None:
        self._asking = redis_client(asking)
        self._answering = redis_client(answering)

    async def publish(self, channel: str, data: bytes) -> int:
        """Publish, and return how many heard it."""
        asks = channel.startswith(ask_channel(""))
        heard: int = await (self._asking if asks else self._answering).publish(channel, data)
        return heard

    async def aclose(self) -> None:
        """Hang up."""
        await self._asking.aclose()
        await self._answering.aclose()


@pytest.fixture(params=["with the services' rights", "with all rights"])
async def intruder(house: Stack, request: pytest.FixtureRequest) -> AsyncIterator[Intruder]:
    """Somebody who holds every Redis URL, and no BUS_SECRET."""
    redis = house.redis
    urls = (redis.gateway_url, redis.approval_url)
    one = Intruder(*urls) if "services" in request.param else Intruder(*[redis.admin_url] * 2)
    yield one
    await one.aclose()


def bus_secret(house: Stack) -> str:
    return house._secrets["BUS_SECRET"]


def admission(key: DeviceKey, **more: Any) -> Admission:
    fields: dict[str, Any] = {
        "call_id": f"{new_boot_id()}:1",
        "device_id": key.device_id,
        "public_key": key.public_key,
        "role": "operator",
        "scopes": ["operator.read"],
        "client": ClientInfo("cli", "cli", "1", "linux"),
        "method": "token",
        "address": "127.0.0.1",
        "protocol": 4,
    }
    return Admission(**{**fields, **more})


class TestAttack31:
    async def test_attack_31_what_is_not_sealed_by_us_is_dropped_and_counted(
        self, house: Stack, intruder: Intruder
    ) -> None:
        stranger = Envelope(("another secret of 32 characters.",), new_boot_id())
        victim = await pair(house)
        question = encode(admission(DeviceKey.generate()))
        removed = Changed(Change(10**6, "x"), "", victim.device_id, "removed", 1, ["*"])
        forgeries = {
            "ask": encode_items(Questions([Item(1, msgspec.Raw(question))])),
            "inbox": encode_items(
                Answers([ItemAnswer(number, "ok", msgspec.Raw(YES)) for number in FORGED_IDS])
            ),
            "news": encode(removed),
        }
        counts = await Counts(house.services, "rejected-unsealed").start()
        client, _ = await victim.stays(house.gateways[0])
        async with client:
            sent = 0
            for channel in (*channels(house), NEWS):
                forged = forgeries[channel.split(":")[1]]
                sealed = stranger.seal(channel, forged)
                for data in (
                    *(b"", b"\x01", os.urandom(60), os.urandom(100_000), forged),
                    *(sealed, sealed[:-1], b"\x00" + sealed[1:], b"\xff" + sealed[1:]),
                ):
                    assert await intruder.publish(channel, data) == (
                        len(house.services) if channel == NEWS else 1
                    )
                    sent += channel == NEWS
            await counts.until(sent * 2)
            assert (await client.call("health")).ok
        await self.goes_on(house, victim)

    async def test_attack_31_ten_megabytes_are_not_even_opened(
        self, house: Stack, intruder: Intruder
    ) -> None:
        victim = await pair(house)
        counts = await Counts(house.services, "rejected-oversized").start()
        for channel in (*channels(house), NEWS):
            await intruder.publish(channel, os.urandom(10_000_000))
            await intruder.publish(channel, bytes(MESSAGE_LIMIT_BYTES + 1))
        await counts.until(4)
        await self.goes_on(house, victim)

    async def test_attack_31_what_was_captured_is_worth_nothing_anywhere(
        self, house: Stack, intruder: Intruder
    ) -> None:
        victim = await pair(house)
        async with captured(house) as messages:
            client, _ = await victim.stays(house.gateways[0])
            await victim.visits(house.gateways[1], with_gateway_token=False)
            async with client, Operator(house, house.approvals[0]) as operator:
                (await operator.remove(victim.device_id)).ok()
                await client.closed(within=5)
                (await operator.approve(await victim.waits(house.gateways[0]))).ok()
        own = channels(house)
        news = [data for channel, data in messages if channel == NEWS]
        assert set(own) | {NEWS} == {channel for channel, _ in messages}

        client, _ = await victim.stays(house.gateways[1])
        async with client, Operator(house, house.approvals[1]) as operator:
            audit = await operator.audit(victim.device_id)
            for service in house.services:
                replays = [data for channel, data in messages if own.get(channel) is service]
                replayed = await Counts([service], "rejected-replayed").start()
                unsealed = await Counts([service], "rejected-unsealed").start()
                (channel,) = [name for name, one in own.items() if one is service]
                for data in replays:
                    await intruder.publish(channel, data)
                await replayed.until(len(replays))
                elsewhere = [data for name, data in messages if name != channel]
                for data in elsewhere:
                    await intruder.publish(channel, data)
                await unsealed.until(len(elsewhere))
            replayed = await Counts(house.services, "rejected-replayed").start()
            for data in news:
                await intruder.publish(NEWS, data)
            await replayed.until(len(news))
            assert await operator.audit(victim.device_id) == audit
            # Attack 30: that it was removed is among what was played again.
            assert (await client.call("health")).ok
        await self.goes_on(house, victim)

    async def test_attack_31_no_forged_answer_lets_anybody_in(
        self, house: Stack, intruder: Intruder
    ) -> None:
        """While a question is open: the right ids, and the wrong seal or the wrong replica."""
        gateway = house.gateways[0]
        inbox = inbox_channel(gateway.boot_id)
        answers = encode_items(
            Answers([ItemAnswer(number, "ok", msgspec.Raw(YES)) for number in FORGED_IDS])
        )
        outsider = Envelope(("another secret of 32 characters.",), house.approvals[0].boot_id)
        member = Envelope((bus_secret(house),), new_boot_id())
        for approval in house.approvals:
            approval.pause()
        visitor = Visitor(house)
        knocking = asyncio.create_task(visitor.refused(gateway))
        while not knocking.done():
            await intruder.publish(inbox, outsider.seal(inbox, answers))
            await intruder.publish(inbox, member.seal(inbox, answers))
            await asyncio.sleep(0.01)
        assert (await knocking).code == "UNAVAILABLE"
        assert await counted(gateway, "answers_dropped-stranger") > 0

    async def test_attack_31_a_members_nonsense_ends_no_service(self, house: Stack) -> None:
        """What is sealed with the right secret and is still no message of ours."""
        victim = await pair(house)
        member = Envelope((bus_secret(house),), new_boot_id())
        bodies = [
            *(b"", b"\xc1", BOMB, HUGE_MAP, EXTENSION, b"\x90", b"\xc0", os.urandom(500)),
            msgspec.msgpack.encode([[[1, {"a": 2}]]]),
            msgspec.msgpack.encode([[[1, "ok", {"tag": "none"}]] * 300]),
            msgspec.msgpack.encode(["weather", "fine"]),
        ]
        client = Intruder(house.redis.gateway_url, house.redis.approval_url)
        async with contextlib.aclosing(client):
            asks = await Counts(house.approvals, "questions_dropped-malformed").start()
            inboxes = await Counts(house.gateways, "answers_dropped-malformed").start()
            news = await Counts(house.gateways, "malformed-news").start()
            for channel in (*channels(house), NEWS):
                for body in bodies:
                    await client.publish(channel, member.seal(channel, body))
            await news.until(len(bodies))
            await asks.until(sum(not is_sound(decode_questions, body) for body in bodies))
            await inboxes.until(sum(not is_sound(decode_answers, body) for body in bodies))
        await self.goes_on(house, victim)

    async def goes_on(self, house: Stack, victim: Visitor) -> None:
        """Check that all is as it was: who is paired comes in, who is not waits."""
        for gateway in house.gateways:
            for _ in range(2):
                await victim.visits(gateway)
            await Visitor(house).waits(gateway)


YES: Final = encode(Admitted(Change(1, "t"), "forged token", ["operator.admin"], 1))


def is_sound(decode: Callable[[bytes], object], body: bytes) -> bool:
    """Say whether these bytes are a message all the same, if one of no consequence."""
    try:
        decode(body)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True


@contextlib.asynccontextmanager
async def captured(house: Stack) -> AsyncIterator[list[tuple[str, bytes]]]:
    """Collect everything that is published meanwhile, as an administrator of Redis can."""
    messages: list[tuple[str, bytes]] = []
    client = redis_client(house.redis.admin_url)
    pubsub: Any = client.pubsub()
    await pubsub.psubscribe("latchkey:*")
    await until_subscribed(pubsub)

    async def collect() -> None:
        async for message in pubsub.listen():
            messages.append((message["channel"].decode(), message["data"]))  # noqa: PERF401 (live)

    collecting = asyncio.create_task(collect())
    try:
        yield messages
        end = os.urandom(8)
        await client.publish(NEWS, end)
        await until(lambda: (NEWS, end) in messages, "all was collected")
    finally:
        collecting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await collecting
        await pubsub.aclose()
        await client.aclose()
    messages[:] = [message for message in messages if message[1] != end]


async def until_subscribed(pubsub: Any) -> None:
    async with asyncio.timeout(10):
        while (await pubsub.get_message(timeout=1.0) or {}).get("type") != "psubscribe":
            pass


class TestAttack38:
    async def test_attack_38_each_replica_has_its_channel_to_itself(self, house: Stack) -> None:
        assert len({service.boot_id for service in house.services}) == len(house.services)
        assert all(re.fullmatch("[0-9a-f]{32}", one.boot_id) for one in house.services)
        client = redis_client(house.redis.admin_url)
        async with contextlib.aclosing(client):
            listening = await client.pubsub_numsub(*channels(house))
            everybody = await client.pubsub_numsub(NEWS)
        assert [count for _channel, count in listening] == [1] * len(house.services)
        assert [count for _channel, count in everybody] == [len(house.services)]

    async def test_attack_38_answers_find_the_gateway_that_asked(self, house: Stack) -> None:
        visitors = [await pair(house) for _ in range(3)]
        unknown = await Counts(house.gateways, "answers_dropped-unknown").start()
        strangers = await Counts(house.gateways, "answers_dropped-stranger").start()
        outcomes = await asyncio.gather(
            *(
                visitor.visits(gateway)
                for _ in range(10)
                for visitor in visitors
                for gateway in house.gateways
            )
        )
        tokens = {outcome.device_token for outcome in outcomes}
        assert tokens == {visitor.token for visitor in visitors}
        await unknown.until(0)
        await strangers.until(0)


async def head_of(house: Stack) -> Change:
    """Return where the store's history stands."""
    async with contextlib.aclosing(redis_client(house.redis.admin_url)) as client:
        found = await client.get("latchkey:head")
    assert isinstance(found, bytes)
    number, _, tag = found.decode().partition(":")
    return Change(int(number), tag)


class NewerApproval(FakeApproval):
    """An approval of a later release: its answers and news have fields we do not know yet."""

    async def _reply(self, asked: Admission | Knock | BeatQuestion) -> Reply:
        reply = await super()._reply(asked)
        assert isinstance(reply, bytes)
        return with_more(reply)


def with_more(body: bytes) -> bytes:
    """Return a message with two more fields at its end."""
    return msgspec.msgpack.encode([*msgspec.msgpack.decode(body), "new", {"in": ["10.0"]}])


class TestOtherReleases:
    """A rolling deploy: this version and the one before are both understood."""

    @pytest.mark.parametrize("version", [VERSION, VERSION - 1])
    async def test_an_older_gateway_is_answered_and_hears_the_news(
        self, house: Stack, version: int
    ) -> None:
        key = DeviceKey.generate()
        async with (
            FakeGateway(house.redis.gateway_url, bus_secret(house), version=version) as older,
            Operator(house, house.approvals[0]) as operator,
        ):
            await until(lambda: len(older.responders.live()) == 2, "both approvals are heard")
            answers = [await older.ask(admission(key)) for _ in range(4)]
            assert all(isinstance(answer, NeedsPairing) for answer in answers)
            (await operator.approve(answers[0].request_id)).ok()
            answers = [await older.ask(admission(key)) for _ in range(4)]
            assert all(isinstance(answer, Admitted) for answer in answers)
            await until(
                lambda: any(
                    isinstance(one, Changed) and one.device_id == key.device_id
                    for one in older.news
                ),
                "the approval is told",
            )
        for approval in house.approvals:
            await told(approval, "question", device=key.device_id)

    async def test_a_newer_gateway_is_answered(self, house: Stack) -> None:
        async with FakeGateway(house.redis.gateway_url, bus_secret(house)) as newer:
            await until(lambda: len(newer.responders.live()) == 2, "both approvals are heard")
            for _ in range(4):
                question = with_more(encode(admission(DeviceKey.generate())))
                answer = await newer.requester.ask(msgspec.Raw(question))
                assert msgspec.msgpack.decode(answer)[0] == "needs-pairing"

    @pytest.mark.parametrize(
        ("kind", "version"),
        [(FakeApproval, VERSION - 1), (NewerApproval, VERSION)],
        ids=["older", "newer"],
    )
    async def test_an_approval_of_another_release_is_asked_and_believed(
        self, house: Stack, kind: type[FakeApproval], version: int
    ) -> None:
        (gateway, *_) = house.gateways
        visitor = Visitor(house)
        base = await head_of(house)
        async with (
            kind(house.redis.approval_url, bus_secret(house), version=version, base=base) as other,
            AsyncExitStack() as sockets,
        ):
            await approvals_heard(gateway, "3 live")
            for approval in house.approvals:
                approval.pause()
            client, admitted = await visitor.stays(gateway)
            sockets.push_async_callback(client.close)
            assert admitted.device_token == DEVICE_TOKEN
            assert [asked.device_id for asked in other.asked] == [visitor.device_id]
            news = Changed(Change(10**9, "t"), "", visitor.device_id, "removed", 1, ["*"])
            await other.publish(NEWS, with_more(encode(news)))
            assert await client.closed(within=5) == (4001, "device removed")
