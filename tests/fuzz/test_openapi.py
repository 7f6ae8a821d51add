"""The API keeps to its own description, whatever is sent to it (schemathesis makes that up).

`GET /v1/events` is left out, because it has no end: what comes on it is held to the description in
tests/integration/approval/test_events.py.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest
import schemathesis
from aiohttp.test_utils import TestServer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from services.approval.openapi import describe
from services.approval.operations import OPERATIONS, PAGES
from shared.messages import BeatQuestion, Change, Present, Seen
from tests.integration.approval.operator import BEARER
from tests.integration.approval.replica import Replica, replica
from tests.unit.approval.devices import Device

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.redis import RedisServer

FINITE: Final = [operation for operation in OPERATIONS if not operation.streams]
EXAMPLES: Final = 60
START_SECONDS: Final = 20.0
SCHEMA: Final = schemathesis.openapi.from_dict(describe(FINITE, PAGES))
DESCRIBED: Final = {
    operation.label: operation
    for result in SCHEMA.get_all_operations()
    if (operation := result.ok())
}


class Server:
    """A replica that serves from a thread of its own; `ids` are some that exist, by parameter."""

    def __init__(self) -> None:
        self.url = ""
        self.ids: dict[str, list[str]] = {"requestId": [], "deviceId": []}
        self.loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop = asyncio.Event()

    def run(self, redis_url: str) -> None:
        """Serve until told to stop."""
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self._serve(redis_url))
        self.loop.close()

    def wait(self) -> None:
        """Return once it serves."""
        assert self._ready.wait(START_SECONDS)

    def stop(self) -> None:
        """Tell it to stop."""
        self.loop.call_soon_threadsafe(self._stop.set)

    async def _serve(self, redis_url: str) -> None:
        async with replica(redis_url, PENDING_LIMIT_PER_ADDRESS="1000") as here:
            await self._furnish(here)
            async with TestServer(here.app) as server:
                self.url = str(server.make_url("/")).rstrip("/")
                self._ready.set()
                await self._stop.wait()

    async def _furnish(self, here: Replica) -> None:
        """Have devices that wait, that are paired, and that are connected."""
        await here.store.write_alive("approval")
        for number in range(100):
            waits, paired = Device.new(), Device.new()
            asked = await here.request(waits.asks(address="192.0.2.1", name="a" * (number % 3)))
            await here.pair(paired, "operator.read", "operator.pairing")
            self.ids["requestId"].append(asked.request_id)
            self.ids["deviceId"].append(paired.device_id)
            beat = BeatQuestion(
                number + 1,
                Change(),
                booted=bool(number % 2),
                builds_on=number,
                connections=number,
                joined=[Present(number, paired.device_id, "operator", 5)],
                seen=[Seen(paired.device_id, "operator", "device-token", "192.0.2.1", number)],
            )
            await here.store.beat("gateway", beat)


@contextmanager
def serving(redis_url: str) -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.run, args=(redis_url,))
    thread.start()
    try:
        server.wait()
        yield server
    finally:
        server.stop()
        thread.join()


@pytest.fixture(scope="module")
def server(redis_process: RedisServer) -> Iterator[Server]:
    redis_process.make_empty()
    with serving(redis_process.approval_url) as one:
        yield one


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("label", DESCRIBED)
def test_keeps_to_its_description(server: Server, label: str, mode: GenerationMode) -> None:
    operation = DESCRIBED[label]
    if mode is GenerationMode.NEGATIVE and not (
        operation.body or list(operation.iter_parameters())
    ):
        return  # nothing in it can be wrong

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), data=st.data())
    def keeps(case: Any, data: Any) -> None:
        for name, ids in server.ids.items():
            if name in (case.path_parameters or {}) and data.draw(st.booleans()):
                case.path_parameters[name] = data.draw(st.sampled_from(ids))
        case.call_and_validate(base_url=server.url, headers=dict(BEARER))

    keeps()


def test_everything_that_ends_is_tried() -> None:
    assert {operation.id for operation in OPERATIONS if operation.streams} == {"followEvents"}
    assert len(DESCRIBED) == len(FINITE) + len(PAGES)
