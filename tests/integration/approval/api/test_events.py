"""The live audit log: no duplicates and no gaps, wherever a client resumes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from services.approval.domain.authorization import OPERATOR
from services.approval.domain.records import AuditEntry
from services.approval.storage.changes.transaction import TransactionPlan
from services.approval.storage.keys import AUDIT, CHANGES, HEAD
from shared.rpc.messages import Changed, Position
from tests.integration.approval.operator import BEARER, HARDENING, Operator
from tests.integration.approval.replica import replica
from tests.support.approval.devices import Device
from tests.support.http.events import EventReader
from tools.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.approval.replica import Replica
    from tools.support.processes.redis import RedisServer

LONG = "x" * 4_000
"""A label large enough for events to fill buffers."""


@contextlib.asynccontextmanager
async def listening(
    operator: Operator, query: str = "", last_id: int | str | None = None
) -> AsyncIterator[EventReader]:
    """Listen to events; `last_id` is sent as Last-Event-ID."""
    headers = BEARER if last_id is None else {**BEARER, "Last-Event-ID": str(last_id)}
    async with operator._client.session.get(
        operator.url.with_path("/v1/events").with_query(query), headers=headers
    ) as response:
        assert response.status == 200, await response.text()
        assert response.headers["Content-Type"] == "text/event-stream"
        for name, value in HARDENING.items():
            assert response.headers[name] == value
        yield EventReader(response)


async def change(here: Replica, count: int = 1, label: str = "") -> None:
    """Make changes in one commit without publishing an event."""
    made = TransactionPlan()
    for _ in range(count):
        made.change(
            Changed(Position(), "", "d", "renamed", 5),
            AuditEntry("renamed", "d", "somebody", 5, label=label),
        )
    assert (await here.ledger.run(made)).outcome == "done"


class TestLive:
    async def test_an_event_is_an_entry_of_the_audit_log(
        self, here: Replica, operator: Operator
    ) -> None:
        async with listening(operator) as listener:
            assert await listener.begun() == 0
            assert listener.retry_ms == 1000
            asked = await here.request(Device.new().asks(name='a"}\ndata: x\r\n\u2028'))
            await here.registry.approve(OPERATOR, asked.request_id)
            events = await listener.take(2)
        assert [(event.id, event.name) for event in events] == [(1, "requested"), (2, "approved")]
        assert [event.data for event in events] == await operator.audit()

    async def test_a_stream_begins_at_the_present(self, here: Replica, operator: Operator) -> None:
        await change(here, 3)
        async with listening(operator) as listener:
            assert await listener.begun() == 3
            await change(here)
            assert (await listener.take(1))[0].id == 4

    async def test_a_stream_may_begin_after_a_number(
        self, here: Replica, operator: Operator
    ) -> None:
        await change(here, 5)
        async with listening(operator, "after=2") as listener:
            assert [event.id for event in await listener.take(3)] == [3, 4, 5]
        async with listening(operator, "after=0") as listener:
            assert [event.id for event in await listener.take(5)] == [1, 2, 3, 4, 5]

    async def test_the_header_goes_before_the_query(
        self, here: Replica, operator: Operator
    ) -> None:
        await change(here, 5)
        async with listening(operator, "after=1", last_id=4) as listener:
            assert (await listener.take(1))[0].id == 5
        async with listening(operator, "after=4", last_id="") as listener:
            assert (await listener.take(1))[0].id == 5

    async def test_without_events_it_takes_a_second_at_most(
        self, here: Replica, operator: Operator
    ) -> None:
        async with listening(operator) as listener:
            await listener.begun()
            await change(here)
            async with asyncio.timeout(5):
                await listener.take(1)

    async def test_entries_arrive_at_once_when_a_change_is_published(
        self, redis_server: RedisServer
    ) -> None:
        async with (
            replica(redis_server.approval_url, events={"poll_seconds": 3600}) as here,
            Operator(here) as operator,
            listening(operator) as listener,
        ):
            await listener.begun()
            for number in range(1, 6):
                await change(here)
                here.events.wake()
                assert (await listener.take(1))[0].id == number

    async def test_a_stream_continues_over_many_pages(
        self, here: Replica, operator: Operator
    ) -> None:
        await change(here, 1_000)
        async with listening(operator, "after=0") as listener:
            assert [event.id for event in await listener.take(1_000)] == list(range(1, 1_001))

    async def test_an_idle_stream_carries_heartbeats(self, redis_server: RedisServer) -> None:
        async with (
            replica(
                redis_server.approval_url, events={"poll_seconds": 0.05, "heartbeat_seconds": 0.1}
            ) as here,
            Operator(here) as operator,
            listening(operator) as listener,
        ):
            reading = asyncio.create_task(listener.next())
            await until(lambda: listener.comments >= 3, "three heartbeats have come")
            reading.cancel()

    async def test_a_head_request_opens_no_stream(self, here: Replica, operator: Operator) -> None:
        reply = await operator.call("HEAD", "/v1/events")
        assert (reply.status, reply.text) == (200, "")
        assert here.metrics.listeners._value.get() == 0


class TestDescription:
    """The endless stream, which schemathesis cannot test."""

    async def test_the_description_of_the_stream_is_true(
        self, here: Replica, operator: Operator
    ) -> None:
        description = (await operator.get("/openapi.json")).body
        described = description["paths"]["/v1/events"]["get"]
        assert {parameter["name"] for parameter in described["parameters"]} == {
            "after",
            "Last-Event-ID",
        }
        assert described["responses"].keys() == {*("200", "400", "401", "403", "429", "500", "503")}
        ((media, content),) = described["responses"]["200"]["content"].items()
        assert media == "text/event-stream"
        assert content["schema"]["x-event-data"] == {"$ref": "#/components/schemas/AuditEntry"}
        known = description["components"]["schemas"]["AuditEntry"]
        asked = await here.request(Device.new().asks())
        await here.registry.approve(OPERATOR, asked.request_id)
        async with listening(operator, "after=0") as listener:
            for event in await listener.take(2):
                assert msgspec.convert(event.data, AuditEntry).id == event.id
                assert set(known["required"]) <= event.data.keys() <= known["properties"].keys()


class TestResuming:
    async def test_streams_resume_at_either_replica_while_changes_happen(
        self, here: Replica, there: Replica, operator: Operator, elsewhere: Operator
    ) -> None:
        total = 120
        received: list[int] = []

        async def happen() -> None:
            for number in range(total):
                await change(here if number % 2 else there)
                (there if number % 3 else here).events.wake()

        async with listening(operator) as listener:
            place = await listener.begun()
        changing = asyncio.create_task(happen())
        turn = 0
        while len(received) < total:
            turn += 1
            at = operator if turn % 2 else elsewhere
            async with listening(at, last_id=place) as listener:
                for _ in range(min(1 + turn % 5, total - len(received))):
                    event = await listener.next()
                    assert event is not None
                    received.append(event.id)
                place = received[-1]
        await changing
        assert received == list(range(1, total + 1))

    async def test_many_listeners_each_receive_everything(
        self, here: Replica, operator: Operator, elsewhere: Operator
    ) -> None:
        async def listen(at: Operator) -> list[int]:
            async with listening(at, "after=0") as listener:
                return [event.id for event in await listener.take(40)]

        listeners = [asyncio.create_task(listen(at)) for at in (operator, elsewhere) * 10]
        for _ in range(40):
            await change(here)
            here.events.wake()
        assert await asyncio.gather(*listeners) == [list(range(1, 41))] * 20

    @pytest.mark.parametrize("after", ["-1", "x", "1.5", "9007199254740992", "1,2", "null"])
    async def test_a_position_that_is_not_a_number_is_malformed(
        self, operator: Operator, after: str
    ) -> None:
        (await operator.get(f"/v1/events?after={after}")).problem(400, "malformed")
        headers = {**BEARER, "Last-Event-ID": after}
        reply = await operator.call("GET", "/v1/events", headers=headers)
        reply.problem(400, "malformed")


class TestReset:
    """A gap is reported as a reset, and the stream continues from the present."""

    async def test_a_position_that_never_existed_resets_the_stream(
        self, here: Replica, operator: Operator
    ) -> None:
        await change(here, 3)
        async with listening(operator, last_id=9) as listener:
            (reset,) = await listener.take(1)
            assert (reset.id, reset.name, reset.data) == (3, "reset", {"id": 3})
            await change(here)
            assert (await listener.take(1))[0].id == 4

    async def test_a_stream_is_reset_after_everything_was_lost(
        self, here: Replica, operator: Operator, redis_server: RedisServer
    ) -> None:
        await change(here, 3)
        async with listening(operator) as listener:
            await listener.begun()
            redis_server.make_empty()
            (reset,) = await listener.take(1)
            assert (reset.id, reset.name) == (0, "reset")
            await change(here)
            (event,) = await listener.take(1)
            assert (event.id, event.name) == (1, "renamed")

    async def test_numbers_of_another_history_reset_the_stream(
        self, operator: Operator, here: Replica, redis_server: RedisServer
    ) -> None:
        """A failover lost some, and as many were made since: only the tags differ."""
        await change(here, 5)
        history = {key: await here.redis.dump(key) for key in (HEAD, CHANGES, AUDIT)}
        redis_server.make_empty()
        await change(here, 3)
        async with listening(operator) as listener:
            await listener.begun()
            async with here.redis.pipeline(transaction=True) as at_once:
                for key, value in history.items():
                    at_once.restore(key, 0, value, replace=True)
                await at_once.execute()
            (reset,) = await listener.take(1)
            assert (reset.id, reset.name) == (5, "reset")

    async def test_a_trimmed_position_resets_the_stream(
        self, here: Replica, operator: Operator
    ) -> None:
        await change(here, 9)
        await here.redis.xtrim(AUDIT, maxlen=4, approximate=False)
        async with listening(operator, "after=3") as listener:
            assert [(event.id, event.name) for event in await listener.take(1)] == [(9, "reset")]
        async with listening(operator, "after=6") as listener:
            assert [event.id for event in await listener.take(3)] == [7, 8, 9]
        async with listening(operator, "after=0") as listener:
            assert [(event.id, event.name) for event in await listener.take(1)] == [(9, "reset")]


class TestBounds:
    async def test_a_limited_number_of_clients_may_listen(self, redis_server: RedisServer) -> None:
        async with (
            replica(
                redis_server.approval_url, events={"listeners_limit": 2, "poll_seconds": 0.05}
            ) as here,
            Operator(here) as operator,
            listening(operator),
        ):
            async with listening(operator):
                reply = await operator.get("/v1/events")
                reply.problem(503, "too-many-listeners")
                assert int(reply.headers["Retry-After"]) > 0
            listeners = here.metrics.listeners._value
            await until(lambda: listeners.get() == 1, "the place is free again")
            async with listening(operator):
                assert listeners.get() == 2

    async def test_a_client_that_reads_nothing_is_dropped(self, redis_server: RedisServer) -> None:
        async with (
            replica(
                redis_server.approval_url, events={"write_seconds": 0.3, "poll_seconds": 0.05}
            ) as here,
            Operator(here) as operator,
            listening(operator) as listener,
        ):
            await listener.begun()
            slow = socket.create_connection(("127.0.0.1", operator.url.port or 0))
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            lines = [
                "GET /v1/events HTTP/1.1",
                "Host: x",
                *(f"{name}: {value}" for name, value in BEARER.items()),
            ]
            slow.sendall("\r\n".join([*lines, "", ""]).encode())
            await until(lambda: here.metrics.listeners._value.get() == 2, "both listen")
            dropped = here.metrics.listeners_dropped._value
            made = 0
            while not dropped.get():
                await change(here, 100, LONG)
                made += 100
                taken = await listener.take(100)
                assert taken[-1].id == made
            assert made * len(LONG) < 40_000_000
            await until(lambda: here.metrics.listeners._value.get() == 1, "one is gone")
            slow.close()
            await change(here)
            assert (await listener.take(1))[0].id == made + 1


class TestTheEnd:
    async def test_streams_end_when_the_service_shuts_down(self, here: Replica) -> None:
        async with Operator(here) as operator, listening(operator) as listener:
            await listener.begun()
            here.events.close()
            assert await listener.next() is None
            (await operator.get("/v1/events")).problem(503, "too-many-listeners")

    async def test_stopping_does_not_wait_for_listeners(self, here: Replica) -> None:
        operator = Operator(here)
        await operator._client.start_server()
        async with listening(operator) as listener:
            await listener.begun()
            async with asyncio.timeout(5):
                await operator._client.close()

    async def test_redis_is_away_for_a_while(
        self, here: Replica, operator: Operator, redis_server: RedisServer
    ) -> None:
        await change(here)
        async with listening(operator) as listener:
            await listener.begun()
            redis_server.kill9()
            assert (await operator.get("/v1/events")).status == 503
            redis_server.start()
            await change(here)
            assert [event.id for event in await listener.take(1)] == [2]

    async def test_an_unadmitted_client_gets_no_events(self, operator: Operator) -> None:
        headers: dict[str, Any]
        for headers in ({}, {"Authorization": "Bearer x"}):
            reply = await operator.call("GET", "/v1/events", headers=headers)
            reply.problem(401, "unauthorized")
