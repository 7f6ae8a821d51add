"""Questions past their deadline write nothing, wherever they were delayed (R11)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest

from services.approval.domain.authorization import OPERATOR
from shared.clock import SystemClock
from shared.protocol.scopes import ADMIN
from shared.rpc.messages import (
    DEVICE_TOKEN,
    SHARED_SECRET,
    Addresses,
    Guess,
    ReportSecret,
    TokenCheck,
    encode,
)
from shared.rpc.responder import Question, Reply
from tests.integration.approval.methods.sockets import call, socket
from tests.integration.approval.replica import Replica, everything, replica
from tests.support.approval.devices import READ, Device
from tests.support.callbacks import result_of
from tools.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from shared.rpc.messages import AuthorizeDevice, Call
    from tools.support.processes.redis import RedisServer

    Writing = AuthorizeDevice | ReportSecret | TokenCheck | Call

ADDRESS: Final = "203.0.113.9"
OTHER_ADDRESS: Final = "203.0.113.10"
PER_ADDRESS: Final = 3
OPEN_MS: Final = 200
"""How long a question that is delayed may still write."""
PAUSE_MS: Final = 400
"""How long Redis is paused meanwhile."""
IN_TIME_MS: Final = 60_000


@pytest.fixture
async def here(redis_server: RedisServer) -> AsyncIterator[Replica]:
    """Run a replica on this machine's clock, with room for few requests per address."""
    async with replica(
        redis_server.approval_url,
        SystemClock(),
        admin_url=redis_server.admin_url,
        PENDING_LIMIT_PER_ADDRESS=str(PER_ADDRESS),
    ) as server:
        yield server
        await server.redis.execute_command("CLIENT", "UNPAUSE")


async def paired_with_token(here: Replica) -> tuple[Device, str]:
    device = Device.new()
    return device, (await here.pair(device)).device_token


async def fail_before(here: Replica, credential: str) -> None:
    await here.store.lockouts.count(ADDRESS, {credential: ["an earlier guess"]})


async def new_request(_here: Replica) -> Writing:
    return Device.new().asks(address=ADDRESS)


async def wider_request(here: Replica) -> Writing:
    device = Device.new()
    await here.request(device.asks(address=ADDRESS))
    return device.asks((*READ, "operator.write"), address=ADDRESS)


async def request_that_displaces_another(here: Replica) -> Writing:
    for _ in range(PER_ADDRESS):
        await here.request(Device.new().asks(address=ADDRESS))
    return Device.new().asks(address=ADDRESS)


async def admission_that_issues_a_token(here: Replica) -> Writing:
    device, _token = await paired_with_token(here)
    await here.registry.revoke(OPERATOR, device.device_id, "operator")
    await here.registry.approve(OPERATOR, (await here.request(device.asks())).request_id)
    await here.registry.revoke(OPERATOR, device.device_id, "operator")
    return device.asks(address=ADDRESS)


async def wrong_device_token(here: Replica) -> Writing:
    device, token = await paired_with_token(here)
    return device.asks(address=ADDRESS, token=f"not {token}")


async def right_device_token_after_a_wrong_one(here: Replica) -> Writing:
    device, token = await paired_with_token(here)
    await fail_before(here, DEVICE_TOKEN)
    return device.asks(address=ADDRESS, token=token)


async def report_of_a_wrong_secret(_here: Replica) -> Writing:
    guesses = [Guess(SHARED_SECRET, "a guess")]
    return ReportSecret("g:1", ADDRESS, [SHARED_SECRET], right=False, guesses=guesses)


async def report_of_a_right_secret_after_a_wrong_one(here: Replica) -> Writing:
    await fail_before(here, SHARED_SECRET)
    return ReportSecret("g:1", ADDRESS, [SHARED_SECRET], right=True)


async def check_of_a_wrong_token(here: Replica) -> Writing:
    device, token = await paired_with_token(here)
    return TokenCheck("g:1", ADDRESS, device.device_id, "operator", f"not {token}")


async def check_of_a_right_token_after_a_wrong_one(here: Replica) -> Writing:
    device, token = await paired_with_token(here)
    await fail_before(here, DEVICE_TOKEN)
    return TokenCheck("g:1", ADDRESS, device.device_id, "operator", token)


async def call_of_a_method(here: Replica) -> Writing:
    caller = await socket(here, await here.paired(ADMIN), ADMIN)
    asked = await here.request(Device.new().asks())
    return call(caller, "device.pair.approve", requestId=asked.request_id)


WRITING: Final[list[Callable[[Replica], Awaitable[Writing]]]] = [
    new_request,
    wider_request,
    request_that_displaces_another,
    admission_that_issues_a_token,
    wrong_device_token,
    right_device_token_after_a_wrong_one,
    report_of_a_wrong_secret,
    report_of_a_right_secret_after_a_wrong_one,
    check_of_a_wrong_token,
    check_of_a_right_token_after_a_wrong_one,
    call_of_a_method,
]


async def dispatch(
    here: Replica, question: Writing, *, not_after_ms: int
) -> Reply | asyncio.Future[Reply]:
    """Deliver a question with this deadline, and return its reply or where it will appear."""
    body = msgspec.Raw(encode(msgspec.structs.replace(question, not_after_ms=not_after_ms)))
    reply: Reply | asyncio.Future[Reply]
    (reply,) = await result_of(here.dispatcher.dispatch, Question("a gateway", body))
    return reply


def late(here: Replica) -> float:
    found = here.metrics.registry.get_sample_value(
        "latchkey_approval_questions_total", {"verdict": "late"}
    )
    return found or 0


@pytest.fixture
async def question(here: Replica, prepare: Callable[[Replica], Awaitable[Writing]]) -> Writing:
    return await prepare(here)


@pytest.fixture
async def before(question: Writing, redis_server: RedisServer) -> object:
    """Return everything that is stored when the question is ready."""
    return await everything(redis_server.admin_url)


@pytest.mark.parametrize("prepare", WRITING)
class TestEveryQuestionThatWrites:
    async def test_a_question_in_time_is_carried_out(
        self, here: Replica, redis_server: RedisServer, question: Writing, before: object
    ) -> None:
        """Otherwise the tests below would show nothing."""
        reply = await dispatch(here, question, not_after_ms=here.store.now_ms() + IN_TIME_MS)
        assert isinstance(reply, asyncio.Future)
        assert await reply is not None
        assert await everything(redis_server.admin_url) != before

    async def test_a_question_late_on_receipt_is_dropped(
        self, here: Replica, redis_server: RedisServer, question: Writing, before: object
    ) -> None:
        assert await dispatch(here, question, not_after_ms=here.store.now_ms() - 1) is None
        assert await everything(redis_server.admin_url) == before
        assert late(here) == 1

    async def test_a_question_delayed_on_its_way_to_redis_writes_nothing(
        self, here: Replica, redis_server: RedisServer, question: Writing, before: object
    ) -> None:
        """The script checks the time again, on Redis's own clock."""
        await here.redis.execute_command("CLIENT", "PAUSE", PAUSE_MS, "WRITE")
        reply = await dispatch(here, question, not_after_ms=here.store.now_ms() + OPEN_MS)
        assert isinstance(reply, asyncio.Future), "it was in time on receipt"
        assert await reply is None
        assert await everything(redis_server.admin_url) == before


class TestAdmissions:
    async def test_one_that_was_read_too_late_is_not_answered_and_its_address_not_learned(
        self, here: Replica
    ) -> None:
        device, token = await paired_with_token(here)
        learned: list[Addresses] = []
        here.store.addresses.note_relaying()
        here.store.addresses.tell = learned.append
        question = device.asks(address=ADDRESS, token=token)
        await here.redis.execute_command("CLIENT", "PAUSE", PAUSE_MS, "ALL")
        reply = await dispatch(here, question, not_after_ms=here.store.now_ms() + OPEN_MS)
        assert reply is None
        assert late(here) == 1
        in_time = device.asks(address=OTHER_ADDRESS, token=token)
        reply = await dispatch(here, in_time, not_after_ms=here.store.now_ms() + IN_TIME_MS)
        assert isinstance(reply, bytes)
        await until(lambda: learned, "an address was learned")
        assert learned == [Addresses([OTHER_ADDRESS])]

    async def test_a_late_one_is_not_tried_again(self, here: Replica) -> None:
        """Repeating its commit would keep others waiting for what cannot succeed."""
        commits: list[Any] = []
        commit = here.ledger.run

        async def counted(plan: Any) -> Any:
            commits.append(plan)
            return await commit(plan)

        here.ledger.run = counted  # type: ignore[method-assign]
        here.store.now_ms = lambda: 1
        question = await new_request(here)
        reply = await dispatch(here, question, not_after_ms=2)
        assert isinstance(reply, asyncio.Future)
        assert await reply is None
        assert len(commits) == 1
        assert late(here) == 1
