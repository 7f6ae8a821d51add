"""Whatever two operators do at once on two replicas has one effect."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.approval.operator import Operator
from tests.support.approval.devices import READ, Device

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.approval.operator import Reply
    from tests.integration.approval.replica import Replica

ROUNDS = range(10)
WIDER = ("operator.read", "operator.pairing")


@pytest.fixture
async def other(there: Replica) -> AsyncIterator[Operator]:
    async with Operator(there) as operator:
        yield operator


async def actions(operator: Operator, device: Device) -> list[str]:
    """Return the audit log's actions on a device."""
    entries = await operator.audit()
    return [entry["action"] for entry in entries if entry["deviceId"] == device.device_id]


async def at_once(*calls: Any) -> list[Reply]:
    """Make calls at the same time."""
    return list(await asyncio.gather(*calls))


async def test_two_approvals_at_once_have_one_effect(
    here: Replica, there: Replica, operator: Operator, other: Operator
) -> None:
    for _ in ROUNDS:
        device = Device.new()
        asked = await here.request(device.asks())
        here.published.clear()
        there.published.clear()
        replies = await at_once(
            *(item.approve(asked.request_id) for item in (operator, other, operator, other))
        )
        first, *more = [reply.ok() for reply in replies]
        assert more == [first] * 3
        assert await actions(operator, device) == ["requested", "approved"]
        assert [news.kind for news in here.published + there.published] == ["approved"]
        tokens = {(await replica.admit(device.asks())).device_token for replica in (here, there)}
        assert len(tokens) == 1


async def test_one_approves_and_one_rejects(
    here: Replica, operator: Operator, other: Operator
) -> None:
    for _ in ROUNDS:
        device = Device.new()
        path = f"/v1/requests/{(await here.request(device.asks())).request_id}"
        replies = await at_once(operator.post(f"{path}/approve"), other.post(f"{path}/reject"))
        assert sorted(reply.status for reply in replies) == [200, 409]
        done = "approved" if replies[0].status == 200 else "rejected"
        assert await actions(operator, device) == ["requested", done]


async def test_one_approves_while_the_device_asks_for_more(
    here: Replica, there: Replica, operator: Operator
) -> None:
    """Only what was shown is approved."""
    for _ in ROUNDS:
        device = Device.new()
        old = await here.request(device.asks())
        reply, new = await asyncio.gather(
            operator.approve(old.request_id), there.request(device.asks(WIDER))
        )
        if reply.status == 409:
            members = reply.problem(409, "request-superseded")
            assert members["successorRequestId"] == new.request_id
            assert (await here.request(device.asks())).request_id == new.request_id
        else:
            assert reply.ok()["device"]["scopes"] == list(READ)
            assert new.reason in {"not-paired", "scope-upgrade"}
            assert (await here.admit(device.asks())).token_scopes == list(READ)
        assert new.request_id in await operator.pending_ids()


async def test_all_actions_at_once_leave_one_consistent_history(
    here: Replica, there: Replica, operator: Operator, other: Operator
) -> None:
    """Nothing fails, numbers have no gap, and the stored data is consistent."""
    device = Device.new()
    await here.pair(device)
    path = f"/v1/devices/{device.device_id}"
    replies = await at_once(
        *(
            item.call("PATCH", path, json={"label": f"label {number}"})
            for number, item in enumerate([operator, other] * 5)
        ),
        *(item.post(f"{path}/tokens/operator/rotate") for item in [operator, other] * 5),
        *(item.call("DELETE", path) for item in (operator, other)),
        *(there.answer(device.asks()) for _ in range(5)),
    )
    statuses = [reply.status for reply in replies[:-5]]
    assert set(statuses) <= {200, 404}, statuses
    assert statuses[-2:].count(200) == 1
    entries = await operator.audit()
    assert [entry["id"] for entry in entries] == list(range(1, len(entries) + 1))
    assert [entry["action"] for entry in entries].count("removed") == 1
    received = sorted(here.published + there.published, key=lambda news: news.change.number)
    assert [news.change.number for news in received] == [entry["id"] for entry in entries]
    for before, after in itertools.pairwise(received):
        assert after.previous_tag == before.change.tag
