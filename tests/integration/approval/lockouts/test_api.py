"""Lock-outs over the HTTP API: listing them, and lifting one at every replica."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import pytest

from services.approval.domain.authorization import OPERATOR
from services.approval.domain.errors import NotAllowed
from services.approval.domain.lockout import FAILURES_LIMIT, LOCK_MS, REMEMBERED_MS
from services.approval.storage.keys import guard_key, wrong_values_key
from shared.rpc.messages import DEVICE_TOKEN, SHARED_SECRET
from tests.integration.approval.replica import everything
from tests.support.approval.callers import shared_secret
from tests.support.approval.devices import Device

if TYPE_CHECKING:
    from tests.integration.approval.operator import Operator
    from tests.integration.approval.replica import Replica
    from tools.support.processes.redis import RedisServer

ADDRESS: Final = "203.0.113.7"
NETWORK: Final = "2001:db8:0:7::/64"
ADMIN: Final = "admin-token"


async def lock(replica: Replica, credential: str = SHARED_SECRET, address: str = ADDRESS) -> None:
    """Report ten wrong values from an address."""
    await replica.store.liveness.write_alive("replica")
    for number in range(FAILURES_LIMIT):
        await replica.store.lockouts.count(address, {credential: [f"stale {number}"]})


def path(credential: str = SHARED_SECRET, address: str = ADDRESS) -> str:
    """Return the path of a lock-out."""
    return f"/v1/lockouts/{credential}/{address}"


async def listed(operator: Operator) -> list[dict[str, Any]]:
    """Return the listed lock-outs."""
    found: list[dict[str, Any]] = (await operator.get("/v1/lockouts")).ok()["lockouts"]
    return found


async def fail(replica: Replica, credential: str, value: str, address: str = ADDRESS) -> int:
    """Report a wrong value; returns how long it is locked out."""
    return await replica.store.lockouts.count(address, {credential: [value]})


class TestList:
    async def test_nothing_is_locked_out(self, operator: Operator) -> None:
        assert await listed(operator) == []

    async def test_each_lock_out_names_its_address_and_end(
        self, here: Replica, operator: Operator, elsewhere: Operator
    ) -> None:
        await lock(here)
        await lock(here, DEVICE_TOKEN, NETWORK)
        for at in (operator, elsewhere):
            network, address = await listed(at)
            assert (address["credential"], address["address"]) == (SHARED_SECRET, ADDRESS)
            assert address["failures"] == FAILURES_LIMIT
            assert address["untilMs"] - address["sinceMs"] == LOCK_MS
            assert "network" not in address
            assert network["credential"] == DEVICE_TOKEN
            assert (network["address"], network["network"]) == ("2001:db8:0:7::", NETWORK)

    async def test_one_that_has_ended_is_not_listed(
        self, here: Replica, operator: Operator
    ) -> None:
        await lock(here)
        await here.redis.delete(guard_key(ADDRESS))
        assert await listed(operator) == []

    async def test_no_secret_and_no_digest_is_revealed(
        self, here: Replica, operator: Operator
    ) -> None:
        await lock(here)
        assert "stale" not in (await operator.get("/v1/lockouts")).text

    async def test_it_is_for_operators_alone(self, here: Replica) -> None:
        socket = shared_secret("operator.pairing")
        with pytest.raises(NotAllowed):
            await here.registry.lockouts.running(socket)
        with pytest.raises(NotAllowed):
            await here.registry.lockouts.lift(socket, SHARED_SECRET, ADDRESS)


class TestLift:
    @pytest.mark.parametrize("credential", [SHARED_SECRET, DEVICE_TOKEN, ADMIN])
    async def test_it_holds_at_every_replica_at_once(
        self,
        here: Replica,
        there: Replica,
        operator: Operator,
        elsewhere: Operator,
        credential: str,
    ) -> None:
        await there.store.liveness.write_alive("there")
        await lock(here, credential)
        assert await fail(there, credential, "another") > 0
        lifted = (await elsewhere.call("DELETE", path(credential))).ok()["lifted"]
        assert (lifted["credential"], lifted["address"]) == (credential, ADDRESS)
        assert await fail(there, credential, "another") == 0
        assert await fail(here, credential, "another") == 0
        assert await listed(operator) == []

    async def test_the_audit_log_says_who_lifted_what(
        self, here: Replica, operator: Operator
    ) -> None:
        await lock(here)
        (await operator.call("DELETE", path())).ok()
        (entry,) = await operator.audit()
        assert entry["action"] == "lockout-lifted"
        assert (entry["actor"], entry["deviceId"]) == ("operator:admin", "")
        assert (entry["credential"], entry["address"]) == (SHARED_SECRET, ADDRESS)

    async def test_counting_restarts_and_known_values_do_not_count(
        self, here: Replica, operator: Operator
    ) -> None:
        """Otherwise the clients that caused it would cause it again."""
        await lock(here)
        (await operator.call("DELETE", path())).ok()
        for number in range(FAILURES_LIMIT):
            assert await fail(here, SHARED_SECRET, f"stale {number}") == 0
        assert await fail(here, SHARED_SECRET, "stale 0") == 0
        for number in range(FAILURES_LIMIT):
            assert await fail(here, SHARED_SECRET, f"new {number}") == 0
        assert await fail(here, SHARED_SECRET, "one more") > 0

    async def test_other_classes_and_addresses_stay_as_they_are(
        self, here: Replica, operator: Operator
    ) -> None:
        await lock(here)
        await lock(here, DEVICE_TOKEN)
        await lock(here, SHARED_SECRET, "203.0.113.8")
        await fail(here, ADMIN, "once")
        (await operator.call("DELETE", path())).ok()
        assert await fail(here, DEVICE_TOKEN, "another") > 0
        assert await fail(here, SHARED_SECRET, "another", "203.0.113.8") > 0
        guard, _wrong = await here.store.lockouts.guarded(ADDRESS)
        assert guard.holds([ADMIN])

    async def test_any_address_of_a_network_names_it(
        self, here: Replica, operator: Operator
    ) -> None:
        await lock(here, DEVICE_TOKEN, NETWORK)
        (await operator.call("DELETE", path(DEVICE_TOKEN, "2001:db8:0:7:1:2:3:4"))).ok()
        assert await listed(operator) == []

    @pytest.mark.parametrize(
        "address", [ADDRESS, "203.0.113.8", "unknown", "nowhere", "2001:db8::"]
    )
    async def test_what_is_not_locked_out(
        self, here: Replica, operator: Operator, address: str
    ) -> None:
        await lock(here, DEVICE_TOKEN)
        members = (await operator.call("DELETE", path(SHARED_SECRET, address))).problem(
            404, "unknown-lockout"
        )
        assert members == {}
        assert await operator.audit() == []

    async def test_clients_of_which_no_address_is_known(
        self, here: Replica, operator: Operator
    ) -> None:
        await lock(here, SHARED_SECRET, "unknown")
        (await operator.call("DELETE", path(SHARED_SECRET, "unknown"))).ok()
        assert await listed(operator) == []

    @pytest.mark.parametrize(
        "wrong", [path("password"), path(SHARED_SECRET, "%20"), path(SHARED_SECRET, "a/b")]
    )
    async def test_a_malformed_path_lifts_nothing(self, operator: Operator, wrong: str) -> None:
        reply = await operator.call("DELETE", wrong)
        assert reply.status in {400, 404}
        assert reply.body["type"].endswith((":malformed", ":not-found"))

    async def test_two_operators_at_once_lift_it_once(
        self, here: Replica, operator: Operator, elsewhere: Operator
    ) -> None:
        await lock(here)
        both = await asyncio.gather(
            *(at.call("DELETE", path()) for at in (operator, elsewhere) for _ in range(4))
        )
        assert sorted(reply.status for reply in both) == [200, *[404] * 7]
        assert len(await operator.audit()) == 1

    async def test_two_classes_at_once_are_both_lifted(
        self, here: Replica, operator: Operator, elsewhere: Operator
    ) -> None:
        for _ in range(5):
            await lock(here)
            await lock(here, DEVICE_TOKEN)
            both = await asyncio.gather(
                operator.call("DELETE", path()), elsewhere.call("DELETE", path(DEVICE_TOKEN))
            )
            assert [reply.status for reply in both] == [200, 200]
            guard, _wrong = await here.store.lockouts.guarded(ADDRESS)
            assert not guard.holds([SHARED_SECRET, DEVICE_TOKEN])
            await here.redis.delete(wrong_values_key(ADDRESS))

    async def test_what_is_counted_meanwhile_is_not_lost(
        self, here: Replica, operator: Operator
    ) -> None:
        """Failures of another class at the same address, while one is locked and lifted."""
        await here.store.liveness.write_alive("here")
        for round_ in range(6):
            await lock_with(here, SHARED_SECRET, f"round {round_}")
            await here.store.lockouts.clear(ADDRESS, [DEVICE_TOKEN])
            counting = [
                fail(here, DEVICE_TOKEN, f"{round_} {number}")
                for number in range(FAILURES_LIMIT - 1)
            ]
            lifting = asyncio.create_task(operator.call("DELETE", path()))
            await asyncio.gather(*counting)
            (await lifting).ok()
            guard, _wrong = await here.store.lockouts.guarded(ADDRESS)
            assert guard._entries[DEVICE_TOKEN][0] == FAILURES_LIMIT - 1
            assert SHARED_SECRET not in guard._entries

    async def test_without_redis_it_is_not_known_whether_it_is_lifted(
        self, here: Replica, operator: Operator, redis_server: RedisServer
    ) -> None:
        await lock(here)
        redis_server.kill9()
        try:
            reply = await operator.call("DELETE", path())
            assert reply.status == 503
        finally:
            redis_server.start()

    async def test_everything_about_it_expires(
        self, here: Replica, operator: Operator, redis_server: RedisServer
    ) -> None:
        await lock(here)
        await lock(here, DEVICE_TOKEN)
        (await operator.call("DELETE", path())).ok()
        for key in await everything(redis_server.admin_url):
            if key.startswith(("latchkey:guard:", "latchkey:wrong:", "latchkey:lockouts")):
                assert 0 < await here.redis.pttl(key) <= REMEMBERED_MS, key

    async def test_it_is_no_change_of_any_device(self, here: Replica, operator: Operator) -> None:
        device = await here.paired()
        await lock(here)
        (await operator.call("DELETE", path())).ok()
        received = here.published[-1]
        assert (received.kind, received.device_id, received.closes) == ("lockout-lifted", "", [])
        (listed_device,) = await here.registry.devices(OPERATOR)
        assert listed_device.device_id == device.device_id != Device.new().device_id


async def lock_with(replica: Replica, credential: str, name: str) -> None:
    """Report ten more wrong values with this prefix."""
    for number in range(FAILURES_LIMIT):
        await fail(replica, credential, f"{name} {number}")
