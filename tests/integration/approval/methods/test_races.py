"""Calls from sockets that race with the end of the access they need."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest

from services.approval.domain.authorization import OPERATOR
from services.approval.requests.methods import PACKED_FROM_BYTES
from shared.rpc.messages import Result
from tests.integration.approval.methods.params import (
    ADMIN,
    APPROVE,
    CHANGING,
    ENDINGS,
    MAY,
    NO_PAIRING,
    params_for,
)
from tests.integration.approval.methods.sockets import (
    call,
    error,
    history,
    outcome,
    payload,
    socket,
)
from tests.support.approval.devices import Device

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from services.approval.storage.changes.transaction import TransactionPlan
    from services.approval.storage.changes.transaction_log import Committed
    from shared.rpc.messages import Call
    from tests.integration.approval.replica import Replica

ROUNDS: Final = 25


class TestRaces:
    """An operator's access ends during a call: one is first, and all replicas agree on which."""

    @pytest.mark.parametrize("method", CHANGING)
    @pytest.mark.parametrize("ending", ENDINGS)
    async def test_a_caller_that_ends_between_check_and_commit_changes_nothing(
        self,
        here: Replica,
        there: Replica,
        monkeypatch: pytest.MonkeyPatch,
        *,
        method: str,
        ending: str,
    ) -> None:
        device, target = await here.paired(ADMIN), await here.paired(*MAY)
        params = await params_for(here, method, target)
        asked = call(await socket(here, device, ADMIN), method, **params)
        before = len(await history(here))
        commit = here.ledger.run

        async def overtaken(plan: TransactionPlan) -> Committed:
            monkeypatch.setattr(here.ledger, "run", commit)
            await ENDINGS[ending](there, device)
            return await commit(plan)

        monkeypatch.setattr(here.ledger, "run", overtaken)
        assert error(await outcome(here, asked)) == NO_PAIRING
        assert [change.action for change in (await history(here))[before:]] == [ending]

    @pytest.mark.parametrize("ending", ENDINGS)
    async def test_an_approval_racing_the_callers_end_is_serialized(
        self, here: Replica, there: Replica, ending: str
    ) -> None:
        for number in range(ROUNDS):
            device, target = await here.paired(ADMIN), Device.new()
            asked = await here.request(target.asks())
            caller = await socket(here, device, ADMIN)
            before = len(await history(here))
            approving = delayed(
                outcome(here, call(caller, APPROVE, requestId=asked.request_id)), number
            )
            received, _ended = await asyncio.gather(
                approving, delayed(ENDINGS[ending](there, device), ROUNDS - number)
            )
            done = [change.action for change in (await history(here))[before:]]
            if isinstance(received, Result):
                assert done == ["approved", ending]
                await here.admit(target.asks())
            else:
                assert error(received) == NO_PAIRING
                assert done == [ending]
                assert (await here.request(target.asks())).request_id == asked.request_id

    async def test_only_one_of_two_devices_revokes_the_other(
        self, here: Replica, there: Replica
    ) -> None:
        for _ in range(ROUNDS):
            first, second = await here.paired(ADMIN), await here.paired(ADMIN)
            before = len(await history(here))
            revokes = [
                call(
                    await socket(here, own, ADMIN),
                    "device.token.revoke",
                    deviceId=other.device_id,
                    role="operator",
                )
                for own, other in ((first, second), (second, first))
            ]
            results = await asyncio.gather(outcome(here, revokes[0]), outcome(there, revokes[1]))
            assert sorted(isinstance(item, Result) for item in results) == [False, True]
            assert [change.action for change in (await history(here))[before:]] == ["revoked"]

    async def test_sockets_and_operator_approve_at_once(
        self, here: Replica, there: Replica
    ) -> None:
        device = await here.paired(ADMIN)
        caller = await socket(here, device, ADMIN)
        for _ in range(ROUNDS):
            target = Device.new()
            asked = await here.request(target.asks())
            before = len(await history(here))
            approving = asyncio.create_task(there.registry.approve(OPERATOR, asked.request_id))
            results = await asyncio.gather(
                *(
                    outcome(replica, call(caller, APPROVE, requestId=asked.request_id))
                    for replica in (here, there)
                )
            )
            await approving
            assert [change.action for change in (await history(here))[before:]] == ["approved"]
            for item in results:
                if not isinstance(item, Result):
                    assert error(item) == ("INVALID_REQUEST", "unknown requestId")


async def delayed(doing: Awaitable[Any], turns: int) -> Any:
    """Wait for this many loop iterations first, to vary the order of two operations."""
    for _ in range(turns * 2):
        await asyncio.sleep(0)
    return await doing


class TestManyDevices:
    @pytest.mark.parametrize("protocol", [4, 3])
    async def test_a_long_list_travels_packed_and_whole(self, here: Replica, protocol: int) -> None:
        caller = await here.paired(ADMIN)
        names = [f"device {number} {random.randbytes(16).hex()}" for number in range(150)]
        for name in names:
            await here.pair(Device.new(), name=name)
        waiting = [Device.new() for _ in range(20)]
        for device in waiting:
            await here.request(device.asks())
        asked: Call = call(await socket(here, caller, ADMIN), "device.pair.list", protocol=protocol)
        result = await outcome(here, asked)
        assert isinstance(result, Result)
        assert result.packed
        listed = payload(result)
        assert len(msgspec.json.encode(listed)) > PACKED_FROM_BYTES
        assert {device.get("displayName") for device in listed["paired"]} == {*names, None}
        assert {request["deviceId"] for request in listed["pending"]} == {
            device.device_id for device in waiting
        }

    async def test_a_short_one_does_not(self, here: Replica) -> None:
        caller = await here.paired(ADMIN)
        result = await outcome(here, call(await socket(here, caller, ADMIN), "device.pair.list"))
        assert isinstance(result, Result)
        assert not result.packed
