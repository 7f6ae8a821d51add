"""Reports of refusals, as gateways send them with heartbeats."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from shared.rpc.messages import HeartbeatAnswer, decode_heartbeat_answer
from shared.rpc.reports import RefusalReport
from shared.rpc.responder import Question
from tests.support.callbacks import result_of

if TYPE_CHECKING:
    from tests.integration.approval.operator import Operator
    from tests.integration.approval.replica import Replica

ADDRESS = "203.0.113.7"


def report(device: str = "", reason: str = "token-mismatch", **more: Any) -> RefusalReport:
    given: dict[str, Any] = {
        "undecided": False,
        "proven": bool(device),
        "address": ADDRESS,
        "number": 1,
        "count": 1,
        "confirmed": 0,
        "age_ms": 0,
        "first_age_ms": more.get("age_ms", 0),
        **more,
    }
    return RefusalReport(reason=reason, device_id=device, **given)


def device_id(number: int) -> str:
    return f"{number:064x}"


async def tell(here: Replica, *reports: RefusalReport, gateway: str = "east") -> None:
    seconds, microseconds = await here.redis.time()
    now_ms = seconds * 1000 + microseconds // 1000
    await here.store.refusals.write(gateway, reports, now_ms)


async def listed(operator: Operator, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await operator.get(f"/v1/refusals{query}")).ok()["refusals"]
    return found


async def beaten(here: Replica, body: bytes) -> HeartbeatAnswer:
    """Answer a gateway's heartbeat as it arrives over the bus."""
    (reply,) = await result_of(here.dispatcher.dispatch, Question("east", msgspec.Raw(body)))
    assert isinstance(reply, asyncio.Future)
    answer = await reply
    assert isinstance(answer, bytes)
    return decode_heartbeat_answer(answer)
