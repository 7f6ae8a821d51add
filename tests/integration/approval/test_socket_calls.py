"""Calls from sockets at two replicas run once, and only with a current right (R12)."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest

from services.approval.domain.authorization import OPERATOR
from services.approval.requests.methods import PACKED_FROM_BYTES
from shared.rpc.messages import DEVICE_TOKEN, SHARED_SECRET, CallerInfo, Result
from tests.integration.approval.sockets import KINDS, call, error, history, outcome, payload, socket
from tests.unit.approval.devices import READ, Device

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from services.approval.storage.store import Committed
    from services.approval.storage.transaction import TransactionPlan
    from shared.rpc.messages import Call
    from tests.integration.approval.replica import Replica

ADMIN: Final = "operator.admin"
PAIRING: Final = "operator.pairing"
WRITE: Final = "operator.write"
MAY: Final = (*READ, PAIRING)
APPROVE: Final = "device.pair.approve"
DENIED: Final = ("INVALID_REQUEST", "device pairing approval denied")
NO_PAIRING: Final = ("FORBIDDEN", "missing scope: operator.pairing")
ROUNDS: Final = 25

CHANGING: Final[dict[str, str]] = {
    APPROVE: "approved",
    "device.pair.reject": "rejected",
    "device.pair.remove": "removed",
    "device.pair.rename": "renamed",
    "device.token.rotate": "rotated",
    "device.token.revoke": "revoked",
}


async def params_for(replica: Replica, method: str, target: Device) -> dict[str, Any]:
    """Return params with which a method changes a paired device."""
    if method in {APPROVE, "device.pair.reject"}:
        asked = await replica.request(target.asks((*MAY, WRITE)))
        return {"requestId": asked.request_id}
    more = {"device.pair.rename": {"label": "a label"}, "device.pair.remove": {}}
    return {"deviceId": target.device_id, **more.get(method, {"role": "operator"})}


class TestOnce:
    """A call has one effect and one answer, however often and wherever it is retried (R11)."""

    @pytest.mark.parametrize("method", CHANGING)
    async def test_a_second_try_gets_the_first_answer(
        self, here: Replica, there: Replica, method: str
    ) -> None:
        caller, target = await here.paired(ADMIN), await here.paired(*MAY)
        params = await params_for(here, method, target)
        asked = call(await socket(here, caller, ADMIN), method, **params)
        before = len(await history(here))
        first = payload(await outcome(here, asked))
        again = [payload(await outcome(one, asked)) for one in (there, here, there)]
        assert again == [first] * 3
        assert [one.action for one in (await history(here))[before:]] == [CHANGING[method]]
        assert there.told == []

    @pytest.mark.parametrize("method", CHANGING)
    async def test_two_tries_at_once(self, here: Replica, there: Replica, method: str) -> None:
        for _ in range(5):
            caller, target = await here.paired(ADMIN), await here.paired(*MAY)
            params = await params_for(here, method, target)
            asked = call(await socket(here, caller, ADMIN), method, **params)
            before = len(await history(here))
            told = await asyncio.gather(*(outcome(one, asked) for one in (here, there, here)))
            first, *more = [payload(one) for one in told]
            assert more == [first] * 2
            assert [one.action for one in (await history(here))[before:]] == [CHANGING[method]]

    @pytest.mark.parametrize(
        "method", ["device.pair.remove", "device.token.rotate", "device.token.revoke"]
    )
    async def test_also_when_the_first_ended_the_caller(
        self, here: Replica, there: Replica, method: str
    ) -> None:
        caller = await here.paired(*MAY)
        params = await params_for(here, method, caller)
        asked = call(await socket(here, caller, *MAY), method, **params)
        first = payload(await outcome(here, asked))
        assert payload(await outcome(there, asked)) == first
        another = call(asked.caller, method, **params)
        assert error(await outcome(there, another)) == NO_PAIRING

    async def test_the_token_of_a_second_try_is_the_first(
        self, here: Replica, there: Replica
    ) -> None:
        caller = await here.paired(*MAY)
        asked = call(
            await socket(here, caller, *MAY),
            "device.token.rotate",
            deviceId=caller.device_id,
            role="operator",
        )
        tokens = {payload(await outcome(one, asked))["token"] for one in (here, there, here)}
        (token,) = tokens
        await there.admit(caller.asks(MAY, token=token))

    async def test_a_late_try_does_nothing_where_the_first_found_nothing_to_do(
        self, here: Replica, there: Replica
    ) -> None:
        """What was already revoked may have been approved again since."""
        caller, target = await here.paired(ADMIN), await here.paired(*MAY)
        admin = await socket(here, caller, ADMIN)
        await here.registry.revoke(OPERATOR, target.device_id, "operator")
        await here.registry.rename(OPERATOR, target.device_id, "Kitchen")
        both = [
            call(admin, "device.token.revoke", deviceId=target.device_id, role="operator"),
            call(admin, "device.pair.rename", deviceId=target.device_id, label="Kitchen"),
        ]
        first = [payload(await outcome(here, asked)) for asked in both]
        await here.registry.approve(OPERATOR, (await here.request(target.asks(MAY))).request_id)
        await here.registry.rename(OPERATOR, target.device_id, "Hall")
        before = await history(here)
        assert [payload(await outcome(there, asked)) for asked in both] == first
        assert await history(here) == before

    async def test_the_answer_says_up_to_where_to_follow(self, here: Replica) -> None:
        caller, target = await here.paired(ADMIN), await here.paired(*MAY)
        params = await params_for(here, "device.pair.remove", target)
        told = await outcome(
            here, call(await socket(here, caller, ADMIN), "device.pair.remove", **params)
        )
        assert isinstance(told, Result)
        assert told.change == here.told[-1].change

    @pytest.mark.parametrize("method", CHANGING)
    async def test_what_comes_too_late_is_not_done(self, here: Replica, method: str) -> None:
        caller, target = await here.paired(ADMIN), await here.paired(*MAY)
        params = await params_for(here, method, target)
        asked = call(await socket(here, caller, ADMIN), method, **params)
        late = msgspec.structs.replace(asked, not_after_ms=1)
        before = await history(here)
        assert await here.methods.answered(late) is None, "the outcome is not known"
        assert await history(here) == before


ENDINGS: Final[dict[str, Callable[[Replica, Device], Awaitable[object]]]] = {
    "removed": lambda replica, device: replica.registry.remove(OPERATOR, device.device_id),
    "revoked": lambda replica, device: replica.registry.revoke(
        OPERATOR, device.device_id, "operator"
    ),
    "rotated": lambda replica, device: replica.registry.rotate(
        OPERATOR, device.device_id, "operator"
    ),
}


class TestCallersWhoseAccessEnded:
    """R12: a caller whose access ended has no effect, although its gateway does not know it yet."""

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("ending", ENDINGS)
    async def test_the_call_is_denied_and_nothing_is_written(
        self, here: Replica, there: Replica, ending: str, kind: str
    ) -> None:
        device, target = await here.paired(ADMIN), await here.paired(*MAY)
        stale = await socket(here, device, ADMIN, kind=kind)
        asked = await here.request(target.asks((WRITE,)))
        mine = await here.request(device.asks(("node.run",), role="node"))
        await ENDINGS[ending](there, device)
        before = await history(here)
        for method in CHANGING:
            for request_id, one in ((asked.request_id, target), (mine.request_id, device)):
                params: dict[str, Any] = {"deviceId": one.device_id, "role": "operator"}
                if method in {APPROVE, "device.pair.reject"}:
                    params = {"requestId": request_id}
                elif method == "device.pair.rename":
                    params = {"deviceId": one.device_id, "label": "mine"}
                told = await outcome(here, call(stale, method, **params))
                assert error(told) == NO_PAIRING
        assert error(await outcome(here, call(stale, "device.pair.list"))) == NO_PAIRING
        for method in ("status", "system-presence", "node.list"):
            told = await outcome(here, call(stale, method))
            assert error(told) == ("FORBIDDEN", "missing scope: operator.read")
        assert await history(here) == before

    @pytest.mark.parametrize("ending", ["revoked", "rotated"])
    async def test_the_old_socket_stays_denied_after_a_new_approval(
        self, here: Replica, ending: str
    ) -> None:
        """The old socket stays denied; only a new one has the new token generation."""
        device = await here.paired(*MAY)
        stale = await socket(here, device, *MAY)
        await ENDINGS[ending](here, device)
        if ending == "revoked":
            await here.pair(device, *MAY)
        told = await outcome(here, call(stale, "device.pair.list"))
        assert error(told) == NO_PAIRING
        fresh = await socket(here, device, *MAY)
        assert payload(await outcome(here, call(fresh, "device.pair.list")))["paired"]

    async def test_the_old_socket_of_a_device_paired_anew_is_denied(self, here: Replica) -> None:
        device = await here.paired(*MAY)
        stale = await socket(here, device, *MAY)
        await ENDINGS["removed"](here, device)
        await here.pair(device, *MAY)
        told = await outcome(here, call(stale, "device.pair.list"))
        assert error(told) == NO_PAIRING

    async def test_an_upgrade_does_not_end_the_socket(self, here: Replica) -> None:
        device = await here.paired(*MAY)
        caller = await socket(here, device, *MAY)
        await here.pair(device, *MAY, WRITE)
        assert payload(await outcome(here, call(caller, "device.pair.list")))["paired"]


class TestReportedScopesOnlyNarrow:
    """R12: the scopes that a gateway reports can only narrow those in the record."""

    @pytest.mark.parametrize("kind", KINDS)
    async def test_scopes_reported_beyond_the_record_grant_nothing(
        self, here: Replica, kind: str
    ) -> None:
        device, target = await here.paired(*MAY), await here.paired(ADMIN)
        inflated = await socket(here, device, ADMIN, WRITE, *MAY, kind=kind)
        before = await history(here)
        wide = await here.request(Device.new().asks((WRITE,)))
        node = await here.request(Device.new().asks((), role="node"))
        expected = {
            DEVICE_TOKEN: [DENIED, DENIED],
            SHARED_SECRET: [("INVALID_REQUEST", f"missing scope: {WRITE}"), DENIED],
        }[kind]
        told = [
            error(await outcome(here, call(inflated, APPROVE, requestId=one.request_id)))
            for one in (wide, node)
        ]
        assert told == expected
        for method, word in (("rotate", "rotation"), ("revoke", "revocation")):
            refused = call(
                inflated,
                f"device.token.{method}",
                deviceId=target.device_id,
                role="operator",
            )
            assert error(await outcome(here, refused)) == (
                "INVALID_REQUEST",
                f"device token {word} denied",
            )
        done = [one.action for one in (await history(here))[len(before) :]]
        assert done == ["requested", "requested"]

    @pytest.mark.parametrize("scopes", [(), READ, (WRITE,)])
    async def test_a_device_without_the_pairing_scope_is_denied(
        self, here: Replica, scopes: tuple[str, ...]
    ) -> None:
        device = await here.paired(*scopes or READ)
        inflated = await socket(here, device, *scopes, PAIRING, ADMIN)
        told = await outcome(here, call(inflated, "device.pair.list"))
        assert error(told) == NO_PAIRING

    @pytest.mark.parametrize("epoch", ["", "another"])
    async def test_a_caller_of_another_token_generation_is_denied(
        self, here: Replica, epoch: str
    ) -> None:
        device = await here.paired(ADMIN)
        caller = msgspec.structs.replace(await socket(here, device, ADMIN), epoch=epoch)
        told = await outcome(here, call(caller, "device.pair.list"))
        assert error(told) == NO_PAIRING

    async def test_a_token_generation_of_another_role_is_denied(self, here: Replica) -> None:
        device = await here.paired(ADMIN)
        await here.pair(device, "node.run", role="node")
        caller = await socket(here, device, ADMIN, role="node")
        told = await outcome(here, call(caller, "device.pair.list"))
        assert error(told) == NO_PAIRING

    @pytest.mark.parametrize("kind", ["device-token", "operator", "of a later release"])
    async def test_a_caller_with_neither_device_nor_secret_is_denied(
        self, here: Replica, kind: str
    ) -> None:
        caller = CallerInfo(kind, "somebody", "operator", [ADMIN])
        told = await outcome(here, call(caller, "device.pair.list"))
        assert error(told) == NO_PAIRING

    async def test_a_gateway_is_no_admin(self, here: Replica) -> None:
        caller = CallerInfo("gateway", "a gateway", "operator", [ADMIN])
        asked = await here.request(Device.new().asks((ADMIN,)))
        told = await outcome(here, call(caller, APPROVE, requestId=asked.request_id))
        assert error(told) == NO_PAIRING


class TestRaces:
    """An operator's access ends during a call: one is first, and all replicas agree on which."""

    @pytest.mark.parametrize("method", CHANGING)
    @pytest.mark.parametrize("ending", ENDINGS)
    async def test_ended_between_check_and_commit(
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
        commit = here.store.commit

        async def overtaken(plan: TransactionPlan) -> Committed:
            monkeypatch.setattr(here.store, "commit", commit)
            await ENDINGS[ending](there, device)
            return await commit(plan)

        monkeypatch.setattr(here.store, "commit", overtaken)
        assert error(await outcome(here, asked)) == NO_PAIRING
        assert [one.action for one in (await history(here))[before:]] == [ending]

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
            told, _ended = await asyncio.gather(
                approving, delayed(ENDINGS[ending](there, device), ROUNDS - number)
            )
            done = [one.action for one in (await history(here))[before:]]
            if isinstance(told, Result):
                assert done == ["approved", ending]
                await here.admit(target.asks())
            else:
                assert error(told) == NO_PAIRING
                assert done == [ending]
                assert (await here.request(target.asks())).request_id == asked.request_id

    async def test_of_two_devices_revoking_each_other_one_succeeds(
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
            told = await asyncio.gather(outcome(here, revokes[0]), outcome(there, revokes[1]))
            assert sorted(isinstance(one, Result) for one in told) == [False, True]
            assert [one.action for one in (await history(here))[before:]] == ["revoked"]

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
            told = await asyncio.gather(
                *(
                    outcome(one, call(caller, APPROVE, requestId=asked.request_id))
                    for one in (here, there)
                )
            )
            await approving
            assert [one.action for one in (await history(here))[before:]] == ["approved"]
            for one in told:
                if not isinstance(one, Result):
                    assert error(one) == ("INVALID_REQUEST", "unknown requestId")


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
        told = await outcome(here, asked)
        assert isinstance(told, Result)
        assert told.packed
        listed = payload(told)
        assert len(msgspec.json.encode(listed)) > PACKED_FROM_BYTES
        assert {one.get("displayName") for one in listed["paired"]} == {*names, None}
        assert {one["deviceId"] for one in listed["pending"]} == {
            device.device_id for device in waiting
        }

    async def test_a_short_one_does_not(self, here: Replica) -> None:
        caller = await here.paired(ADMIN)
        told = await outcome(here, call(await socket(here, caller, ADMIN), "device.pair.list"))
        assert isinstance(told, Result)
        assert not told.packed
