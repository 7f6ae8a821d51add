"""Calls from sockets at two replicas run once, and only with a current right (R12)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest

from services.approval.domain.authorization import OPERATOR
from shared.rpc.messages import DEVICE_TOKEN, SHARED_SECRET, CallerInfo, Result
from tests.integration.approval.methods.params import (
    ADMIN,
    APPROVE,
    CHANGING,
    ENDINGS,
    MAY,
    NO_PAIRING,
    PAIRING,
    WRITE,
    params_for,
)
from tests.integration.approval.methods.sockets import (
    KINDS,
    call,
    error,
    history,
    outcome,
    payload,
    socket,
)
from tests.support.approval.devices import READ, Device

if TYPE_CHECKING:
    from tests.integration.approval.replica import Replica

DENIED: Final = ("INVALID_REQUEST", "device pairing approval denied")


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
        again = [payload(await outcome(replica, asked)) for replica in (there, here, there)]
        assert again == [first] * 3
        assert [change.action for change in (await history(here))[before:]] == [CHANGING[method]]
        assert there.published == []

    @pytest.mark.parametrize("method", CHANGING)
    async def test_two_attempts_at_once_have_one_effect(
        self, here: Replica, there: Replica, method: str
    ) -> None:
        for _ in range(5):
            caller, target = await here.paired(ADMIN), await here.paired(*MAY)
            params = await params_for(here, method, target)
            asked = call(await socket(here, caller, ADMIN), method, **params)
            before = len(await history(here))
            results = await asyncio.gather(
                *(outcome(replica, asked) for replica in (here, there, here))
            )
            first, *more = [payload(item) for item in results]
            assert more == [first] * 2
            assert [change.action for change in (await history(here))[before:]] == [
                CHANGING[method]
            ]

    @pytest.mark.parametrize(
        "method", ["device.pair.remove", "device.token.rotate", "device.token.revoke"]
    )
    async def test_a_second_try_gets_the_answer_even_if_the_first_ended_the_caller(
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
        tokens = {
            payload(await outcome(replica, asked))["token"] for replica in (here, there, here)
        }
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
        result = await outcome(
            here, call(await socket(here, caller, ADMIN), "device.pair.remove", **params)
        )
        assert isinstance(result, Result)
        assert result.change == here.published[-1].change

    @pytest.mark.parametrize("method", CHANGING)
    async def test_what_comes_too_late_is_not_done(self, here: Replica, method: str) -> None:
        caller, target = await here.paired(ADMIN), await here.paired(*MAY)
        params = await params_for(here, method, target)
        asked = call(await socket(here, caller, ADMIN), method, **params)
        late = msgspec.structs.replace(asked, not_after_ms=1)
        before = await history(here)
        assert await here.methods.answered(late) is None, "the outcome is not known"
        assert await history(here) == before


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
            for request_id, item in ((asked.request_id, target), (mine.request_id, device)):
                params: dict[str, Any] = {"deviceId": item.device_id, "role": "operator"}
                if method in {APPROVE, "device.pair.reject"}:
                    params = {"requestId": request_id}
                elif method == "device.pair.rename":
                    params = {"deviceId": item.device_id, "label": "mine"}
                result = await outcome(here, call(stale, method, **params))
                assert error(result) == NO_PAIRING
        assert error(await outcome(here, call(stale, "device.pair.list"))) == NO_PAIRING
        for method in ("status", "system-presence", "node.list"):
            result = await outcome(here, call(stale, method))
            assert error(result) == ("FORBIDDEN", "missing scope: operator.read")
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
        result = await outcome(here, call(stale, "device.pair.list"))
        assert error(result) == NO_PAIRING
        fresh = await socket(here, device, *MAY)
        assert payload(await outcome(here, call(fresh, "device.pair.list")))["paired"]

    async def test_the_old_socket_of_a_device_paired_anew_is_denied(self, here: Replica) -> None:
        device = await here.paired(*MAY)
        stale = await socket(here, device, *MAY)
        await ENDINGS["removed"](here, device)
        await here.pair(device, *MAY)
        result = await outcome(here, call(stale, "device.pair.list"))
        assert error(result) == NO_PAIRING

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
        results = [
            error(await outcome(here, call(inflated, APPROVE, requestId=item.request_id)))
            for item in (wide, node)
        ]
        assert results == expected
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
        done = [change.action for change in (await history(here))[len(before) :]]
        assert done == ["requested", "requested"]

    @pytest.mark.parametrize("scopes", [(), READ, (WRITE,)])
    async def test_a_device_without_the_pairing_scope_is_denied(
        self, here: Replica, scopes: tuple[str, ...]
    ) -> None:
        device = await here.paired(*scopes or READ)
        inflated = await socket(here, device, *scopes, PAIRING, ADMIN)
        result = await outcome(here, call(inflated, "device.pair.list"))
        assert error(result) == NO_PAIRING

    @pytest.mark.parametrize("token_generation", ["", "another"])
    async def test_a_caller_of_another_token_generation_is_denied(
        self, here: Replica, token_generation: str
    ) -> None:
        device = await here.paired(ADMIN)
        caller = msgspec.structs.replace(
            await socket(here, device, ADMIN), token_generation=token_generation
        )
        result = await outcome(here, call(caller, "device.pair.list"))
        assert error(result) == NO_PAIRING

    async def test_a_token_generation_of_another_role_is_denied(self, here: Replica) -> None:
        device = await here.paired(ADMIN)
        await here.pair(device, "node.run", role="node")
        caller = await socket(here, device, ADMIN, role="node")
        result = await outcome(here, call(caller, "device.pair.list"))
        assert error(result) == NO_PAIRING

    @pytest.mark.parametrize("kind", ["device-token", "operator", "of a later release"])
    async def test_a_caller_with_neither_device_nor_secret_is_denied(
        self, here: Replica, kind: str
    ) -> None:
        caller = CallerInfo(kind, "somebody", "operator", [ADMIN])
        result = await outcome(here, call(caller, "device.pair.list"))
        assert error(result) == NO_PAIRING

    async def test_a_gateway_is_no_admin(self, here: Replica) -> None:
        caller = CallerInfo("gateway", "a gateway", "operator", [ADMIN])
        asked = await here.request(Device.new().asks((ADMIN,)))
        result = await outcome(here, call(caller, APPROVE, requestId=asked.request_id))
        assert error(result) == NO_PAIRING
