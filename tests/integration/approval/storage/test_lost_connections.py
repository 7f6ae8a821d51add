"""A connection for reads that is lost makes outcomes unknown, for one read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from services.approval.app import STORE_TIMEOUT_SECONDS
from services.approval.domain.errors import StoreUnavailable
from shared.redis.access import make_client
from shared.redis.connection import Reads
from shared.rpc.messages import NeedsPairing, decode_answer, encode
from shared.rpc.responder import Question
from tests.support.approval.devices import Device
from tests.support.callbacks import result_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.approval.replica import Replica
    from tools.support.processes.redis import RedisServer


@pytest.fixture
async def reads(redis_server: RedisServer, here: Replica) -> AsyncIterator[Reads]:
    """Let the replica read as the service does; its connection is open."""
    client = make_client(redis_server.approval_url, max_connections=2, timeout_seconds=2.0)
    reads = Reads(client, STORE_TIMEOUT_SECONDS)
    here.store._read = reads.read
    await here.store.load([])
    yield reads
    await reads.close()
    await client.aclose()


class Closed:
    """A closed transport of uvloop, which reports that only when it is written to."""

    def write(self, _data: bytes) -> None:
        raise RuntimeError("unable to perform operation; the handler is closed")

    def abort(self) -> None:
        pass


def close_unnoticed(reads: Reads) -> None:
    """Close the transport below the connection, which does not know it yet."""
    connection: Any = reads._connection
    connection._transport = Closed()


async def test_a_question_gets_no_answer_and_the_next_one_does(here: Replica, reads: Reads) -> None:
    question = Question("a gateway", msgspec.Raw(encode(Device.new().asks())))
    close_unnoticed(reads)
    assert await result_of(here.dispatcher.dispatch, question) == [None]
    (reply,) = await result_of(here.dispatcher.dispatch, question)
    assert reply is not None
    answer = await reply  # a commit is due, so it is a future
    assert isinstance(decode_answer(answer), NeedsPairing)


async def test_reads_of_the_registry_fail_as_unavailable_once(here: Replica, reads: Reads) -> None:
    close_unnoticed(reads)
    with pytest.raises(StoreUnavailable):
        await here.store.load(["a device"])
    _head, (held,) = await here.store.load(["a device"])
    assert held.record is None
    close_unnoticed(reads)
    with pytest.raises(StoreUnavailable):
        await here.store.notes(["a request"])
    assert await here.store.notes(["a request"]) == [None]
