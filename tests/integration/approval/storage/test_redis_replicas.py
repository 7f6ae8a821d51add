"""With Redis replicas a change is confirmed once one of them has it; until then it is unknown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from services.approval.domain.errors import RegistryError, StoreUnavailable
from services.approval.storage.keys import CONFIRMED
from shared.rpc.messages import Result
from tests.integration.approval.methods.sockets import call, history, outcome, socket
from tests.integration.approval.operator import path_of
from tests.support.approval.devices import READ, Device
from tools.support.processes.redis import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.approval.operator import Operator
    from tests.integration.approval.replica import Replica

ADMIN = "operator.admin"


@pytest.fixture
def copy(
    here: Replica, there: Replica, redis_server: RedisServer, tmp_path: Path
) -> Iterator[RedisServer]:
    """Return a Redis replica that both approvals know of."""
    with RedisServer(tmp_path) as server:
        server.follow(redis_server)
        for replica in (here, there):
            replica.store.has_replicas = True
        yield server


class TestCalls:
    @pytest.mark.parametrize("method", ["device.pair.approve", "device.pair.rename"])
    async def test_no_attempt_is_confirmed_before_a_redis_replica_has_it(
        self, here: Replica, there: Replica, copy: RedisServer, method: str
    ) -> None:
        caller = await socket(here, await here.paired(ADMIN), ADMIN)
        target = await here.paired()
        asked_for = await here.request(target.asks((*READ, "operator.write")))
        params: dict[str, Any] = (
            {"requestId": asked_for.request_id}
            if method == "device.pair.approve"
            else {"deviceId": target.device_id, "label": "a label"}
        )
        asked = call(caller, method, **params)
        before = len(await history(here))
        copy.pause()
        for replica in (here, there, here):
            assert not isinstance(await replica.methods.answered(asked), bytes), "unknown"
        copy.resume()
        assert isinstance(await outcome(there, asked), Result)
        assert len(await history(here)) == before + 1

    async def test_an_error_counts_once_a_copy_has_what_it_comes_from(
        self, here: Replica, there: Replica, copy: RedisServer
    ) -> None:
        caller = await socket(here, await here.paired(ADMIN), ADMIN)
        target = await here.paired()
        copy.pause()
        for replica in (here, there):
            asked = call(caller, "device.pair.remove", deviceId=target.device_id)
            assert not isinstance(await replica.methods.answered(asked), bytes), "unknown"
        copy.resume()
        asked = call(caller, "device.pair.remove", deviceId=target.device_id)
        assert not isinstance(await outcome(there, asked), Result)

    async def test_what_was_answered_is_read_as_a_copy_has_it(
        self, here: Replica, copy: RedisServer
    ) -> None:
        copy.pause()
        with pytest.raises(StoreUnavailable, match="replica"):
            await here.ledger.answered("gateway:1/1", str)
        copy.resume()
        assert await here.ledger.answered("gateway:1/1", str) is None


class TestOperators:
    async def test_an_unconfirmed_approval_is_unknown_until_it_is_confirmed(
        self, here: Replica, operator: Operator, copy: RedisServer
    ) -> None:
        asked_for = await here.request(Device.new().asks(READ))
        copy.pause()
        for _ in range(2):
            (await operator.approve(asked_for.request_id)).problem(503, "store-unavailable")
        copy.resume()
        for _ in range(2):
            (await operator.approve(asked_for.request_id)).ok()

    async def test_an_unconfirmed_rejection_is_unknown_until_it_is_confirmed(
        self, here: Replica, operator: Operator, copy: RedisServer
    ) -> None:
        asked_for = await here.request(Device.new().asks(READ))
        path = f"/v1/requests/{asked_for.request_id}/reject"
        copy.pause()
        for _ in range(2):
            (await operator.post(path)).problem(503, "store-unavailable")
        copy.resume()
        (await operator.post(path)).ok()

    async def test_an_unconfirmed_removal_is_unknown_until_it_is_confirmed(
        self, here: Replica, operator: Operator, copy: RedisServer
    ) -> None:
        path = path_of(await here.paired())
        copy.pause()
        for _ in range(2):
            (await operator.call("DELETE", path)).problem(503, "store-unavailable")
        copy.resume()
        (await operator.call("DELETE", path)).problem(404, "unknown-device")

    async def test_an_unconfirmed_revocation_is_unknown_until_it_is_confirmed(
        self, here: Replica, operator: Operator, copy: RedisServer
    ) -> None:
        path = path_of(await here.paired(), "tokens", "operator", "revoke")
        copy.pause()
        for _ in range(2):
            (await operator.post(path)).problem(503, "store-unavailable")
        copy.resume()
        (await operator.post(path)).ok()


class TestDevices:
    async def test_no_request_is_told_before_a_redis_replica_has_it(
        self, here: Replica, there: Replica, copy: RedisServer
    ) -> None:
        """The gateway asks another approval while the first one waits for its confirmation."""
        asks = Device.new().asks(READ)
        copy.pause()
        for replica in (here, there, here):
            assert await replica.answer(asks) is None, "unknown"
        copy.resume()
        told = await there.request(asks)
        assert told.request_id == (await here.request(asks)).request_id


async def test_without_copies_nothing_is_written_for_them(here: Replica) -> None:
    caller = await socket(here, await here.paired(ADMIN), ADMIN)
    asked = call(caller, "device.pair.remove", deviceId="0" * 64)
    for _ in range(2):
        await outcome(here, asked)
    with pytest.raises(RegistryError):
        await here.registry.remove(await here.socket(await here.paired(ADMIN), ADMIN), "0" * 64)
    assert not await here.redis.exists(CONFIRMED)
