"""`device.pair.setupCode` and `setupStatus`, and the calls that gateways make about codes."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import segno

from services.approval.domain.authorization import OPERATOR, operator_caller
from services.approval.domain.errors import (
    NotAllowed,
    TooManySetupCodes,
    UnknownSetupCode,
)
from services.approval.domain.permissions import Permission
from services.approval.domain.setup_codes import LIFETIME_MS, LIVE_LIMIT_CODES_PER_CREATOR
from services.approval.storage import setup_codes as storage
from shared.protocol.methods import METHODS, SETUP_CODE, SETUP_STATUS
from shared.protocol.schema import params_problems
from shared.rpc.messages import SETUP_DELIVERED, SETUP_JOIN, Admitted, CallerInfo
from tests.integration.approval.methods.sockets import (
    call,
    error,
    history,
    outcome,
    payload,
    socket,
)
from tests.integration.approval.replica import Replica, everything, replica
from tests.integration.approval.setup_codes.phones import create, presents, token_in
from tests.support.approval.devices import Device
from tools.support.setup_codes import read_setup_code

if TYPE_CHECKING:
    from tests.support.clock import FakeClock
    from tools.support.processes.redis import RedisServer

RECORDED: Final = json.loads((Path(__file__).parents[3] / "data/wire/setup-codes.json").read_text())
"""Calls and answers of the original, without secrets."""
ADMIN: Final = CallerInfo("shared-secret", "gateway token from ::1", "operator", ["operator.admin"])
GATEWAY: Final = CallerInfo("gateway", "gateway x", "operator", [])


@pytest.fixture(autouse=True)
async def alive(here: Replica, there: Replica) -> None:
    await here.store.liveness.write_alive("here")
    await there.store.liveness.write_alive("there")


class TestSetupCode:
    @pytest.mark.parametrize("recorded", RECORDED, ids=[str(one["params"]) for one in RECORDED])
    async def test_as_the_original(self, here: Replica, recorded: dict[str, Any]) -> None:
        params = recorded["params"]
        schema = METHODS[SETUP_CODE].params
        assert schema is not None
        assert params_problems(params, schema) == []
        found = await outcome(here, call(ADMIN, SETUP_CODE, **params))
        if "error" in recorded:
            code, message = error(found)
            assert (code, message[:60]) == tuple(recorded["error"])
            return
        result, expected = payload(found), recorded["result"]
        assert sorted(result) == expected.pop("keys")
        if "joinUrl" in expected:
            assert result["joinUrl"].startswith(expected.pop("joinUrl"))
            assert len(result["joinUrl"].rpartition("/")[2]) == 22
        assert {name: result[name] for name in expected} == expected
        read = read_setup_code(result["setupCode"])
        assert list(read) == ["url", "bootstrapToken", "expiresAtMs"]
        assert (read["url"], read["expiresAtMs"]) == (result["gatewayUrl"], result["expiresAtMs"])
        assert len(read["bootstrapToken"]) == 43

    async def test_the_qr_code_is_a_png_of_the_code_itself(self, here: Replica) -> None:
        result = payload(await outcome(here, call(ADMIN, SETUP_CODE, publicUrl="wss://gw.example")))
        kind, _, image = result["qrDataUrl"].partition(",")
        assert kind == "data:image/png;base64"
        png = base64.b64decode(image, validate=True)
        assert png.startswith(b"\x89PNG")
        expected = segno.make(result["setupCode"], error="m", boost_error=False, micro=False)
        assert int.from_bytes(png[16:20]) == 6 * (expected.symbol_size(border=4)[0])

    async def test_without_an_address(self, here: Replica) -> None:
        code, message = error(await outcome(here, call(ADMIN, SETUP_CODE)))
        assert code == "INVALID_REQUEST"
        assert "GATEWAY_PUBLIC_URL" in message

    async def test_the_configured_address_and_cap(
        self, redis_server: RedisServer, clock: FakeClock
    ) -> None:
        async with replica(
            redis_server.approval_url,
            clock,
            admin_url=redis_server.admin_url,
            GATEWAY_PUBLIC_URL="https://gw.example.com/",
            SETUP_CODE_ACCESS="limited",
        ) as capped:
            await capped.store.liveness.write_alive("capped")
            result = payload(await outcome(capped, call(ADMIN, SETUP_CODE, includeQr=False)))
        assert result["gatewayUrl"] == "wss://gw.example.com"
        assert result["urlSource"] == "GATEWAY_PUBLIC_URL"
        assert (result["access"], result["accessDowngraded"]) == ("limited", True)

    @pytest.mark.parametrize(
        ("params", "problem"),
        [
            ({"publicUrl": ""}, "at /publicUrl: must not have fewer than 1 characters"),
            ({"joinUrl": False}, "at /joinUrl: must be equal to constant"),
            (
                {"bootstrapProfile": "full"},
                "at /bootstrapProfile: must be equal to one of the allowed values",
            ),
            ({"bogus": 1}, "at root: unexpected property 'bogus'"),
            ({"includeQr": 1}, "at /includeQr: must be boolean"),
        ],
    )
    def test_invalid_params(self, params: dict[str, Any], problem: str) -> None:
        schema = METHODS[SETUP_CODE].params
        assert schema is not None
        assert params_problems(params, schema) == [problem]

    async def test_the_right_is_checked_against_the_callers_own_record(
        self, here: Replica, there: Replica
    ) -> None:
        phone = Device.new()
        found = await here.answer(presents(phone, token_in(await create(here))))
        assert isinstance(found, Admitted)
        caller = await socket(here, phone, "operator.admin")
        assert payload(await outcome(there, call(caller, SETUP_CODE, publicUrl="wss://gw")))
        await here.registry.remove(OPERATOR, phone.device_id)
        code, message = error(await outcome(there, call(caller, SETUP_CODE, publicUrl="wss://gw")))
        assert (code, message) == ("FORBIDDEN", "missing scope: operator.admin")

    async def test_a_retry_at_another_replica_creates_no_second_code(
        self, here: Replica, there: Replica
    ) -> None:
        asked = call(ADMIN, SETUP_CODE, publicUrl="wss://gw.example")
        assert payload(await outcome(here, asked)) == payload(await outcome(there, asked))
        assert len(await here.setup_codes.live(OPERATOR)) == 1

    async def test_no_secret_is_stored(self, here: Replica, redis_server: RedisServer) -> None:
        asked = call(ADMIN, SETUP_CODE, publicUrl="wss://gw", bootstrapProfile="node", joinUrl=True)
        result = payload(await outcome(here, asked))
        joined = payload(
            await outcome(
                here, call(GATEWAY, SETUP_JOIN, code=result["joinUrl"].rpartition("/")[2])
            )
        )
        stored = await everything(redis_server.admin_url)
        token = read_setup_code(result["setupCode"])["bootstrapToken"]
        assert joined["payload"]["bootstrapToken"] == token
        for secret in (token, result["setupCode"], result["joinUrl"][-22:]):
            assert secret.encode() not in str(stored).encode()


class TestStatus:
    async def test_from_nothing_to_completion(self, here: Replica, there: Replica) -> None:
        created = await create(here)
        setup_id, phone = created.code.setup_id, Device.new()

        async def status(at: Replica) -> Any:
            return payload(await outcome(at, call(ADMIN, SETUP_STATUS, setupId=setup_id)))

        assert await status(there) == {}
        await here.answer(presents(phone, token_in(created)))
        about = {
            "setupId": setup_id,
            "deviceId": phone.device_id,
            "deviceName": "Pixel",
            "access": "full",
        }
        uncertain = await status(there)
        assert uncertain["deliveryUncertain"].pop("ts") > 0
        assert uncertain == {"deliveryUncertain": about}
        await outcome(there, call(GATEWAY, SETUP_DELIVERED, setupId=setup_id, delivered=True))
        completed = await status(here)
        assert completed["completion"].pop("ts") > 0
        assert completed == {"completion": about}
        (event,) = [one for one in there.published if one.kind == storage.DELIVERED]
        assert json.loads(event.request)["setupId"] == setup_id
        await outcome(here, call(GATEWAY, SETUP_DELIVERED, setupId=setup_id, delivered=False))
        assert [one for one in here.published if one.kind == storage.UNCERTAIN] == []

    async def test_not_delivered(self, here: Replica) -> None:
        created = await create(here)
        await here.answer(presents(Device.new(), token_in(created)))
        setup_id = created.code.setup_id
        await outcome(here, call(GATEWAY, SETUP_DELIVERED, setupId=setup_id, delivered=False))
        assert [one.kind for one in here.published][-1] == storage.UNCERTAIN
        assert "deliveryUncertain" in payload(
            await outcome(here, call(ADMIN, SETUP_STATUS, setupId=setup_id))
        )

    async def test_unknown(self, here: Replica) -> None:
        assert payload(await outcome(here, call(ADMIN, SETUP_STATUS, setupId="nope"))) == {}

    @pytest.mark.parametrize("method", [SETUP_JOIN, SETUP_DELIVERED])
    async def test_only_gateways_report_and_join(self, here: Replica, method: str) -> None:
        asked = call(ADMIN, method, code="x" * 22, setupId="x", delivered=True)
        assert error(await outcome(here, asked))[0] == "INVALID_REQUEST"
        assert method not in METHODS


class TestJoin:
    async def join(self, at: Replica, text: str) -> Any:
        found = payload(await outcome(at, call(GATEWAY, SETUP_JOIN, code=text, address="x")))
        return found.get("payload")

    async def test_once(self, here: Replica, there: Replica) -> None:
        created = await create(here, "node", with_join_url=True)
        text = created.join_url.rpartition("/")[2]
        found = await self.join(there, text)
        assert found == read_setup_code(created.text)
        assert await self.join(here, text) is None
        # The code itself is neither used up nor bound.
        answer = await here.answer(
            presents(
                Device.new(), found["bootstrapToken"], role="node", client=("node-host", "node")
            )
        )
        assert isinstance(answer, Admitted)

    async def test_a_retry_of_the_call_gets_it_again(self, here: Replica, there: Replica) -> None:
        created = await create(here, "node", with_join_url=True)
        asked = call(GATEWAY, SETUP_JOIN, code=created.join_url.rpartition("/")[2])
        first = payload(await outcome(here, asked))
        assert first == payload(await outcome(there, asked))
        assert first["payload"]["bootstrapToken"]

    @pytest.mark.parametrize("text", ["AAAAAAAAAAAAAAAAAAAAAA", "abc", "", "x" * 22])
    async def test_unknown(self, here: Replica, text: str) -> None:
        assert await self.join(here, text) is None

    async def test_ten_wrong_ones_lock_the_address_out(self, here: Replica, there: Replica) -> None:
        async def join(at: Replica, text: str, address: str) -> Any:
            asked = call(GATEWAY, SETUP_JOIN, code=text, address=address)
            return payload(await outcome(at, asked))

        good = (await create(here, "node", with_join_url=True)).join_url.rpartition("/")[2]
        for number in range(10):
            wrong = f"{number}" * 22
            assert await join((here, there)[number % 2], wrong, "203.0.113.5") == {}
        locked = await join(there, good, "203.0.113.5")
        assert 290_000 < locked["lockedMs"] <= 300_000
        assert (await join(there, good, "203.0.113.6"))["payload"]

    async def test_expired(self, here: Replica, clock: FakeClock) -> None:
        created = await create(here, "node", with_join_url=True)
        clock.advance(LIFETIME_MS / 1000)
        assert await self.join(here, created.join_url.rpartition("/")[2]) is None


class TestOperators:
    async def test_permissions(self, here: Replica) -> None:
        viewer = operator_caller("v", Permission.VIEW)
        with pytest.raises(NotAllowed):
            await create(here, caller=viewer)
        created = await create(here, caller=operator_caller("d", Permission.DECIDE))
        assert created.code.created_by == "operator:d"
        assert [one.setup_id for one in await here.setup_codes.live(viewer)] == [
            created.code.setup_id
        ]
        with pytest.raises(NotAllowed):
            await here.setup_codes.revoke(viewer, created.code.setup_id)
        with pytest.raises(NotAllowed):
            await here.setup_codes.revoke_all(viewer)

    async def test_list_and_revoke(self, here: Replica, there: Replica) -> None:
        codes = [(await create(here)).code for _ in range(3)]
        listed = await there.setup_codes.live(OPERATOR)
        assert {one.setup_id for one in listed} == {one.setup_id for one in codes}
        await there.setup_codes.revoke(OPERATOR, codes[0].setup_id)
        await here.setup_codes.revoke(OPERATOR, codes[0].setup_id)  # idempotent
        assert len(await here.setup_codes.live(OPERATOR)) == 2
        assert len(await there.setup_codes.revoke_all(OPERATOR)) == 2
        assert await here.setup_codes.live(OPERATOR) == []
        assert await here.setup_codes.revoke_all(OPERATOR) == []
        with pytest.raises(UnknownSetupCode):
            await here.setup_codes.revoke(OPERATOR, "nope")
        actions = [one.action for one in await history(here)]
        assert actions.count(storage.REVOKED) == 3

    async def test_the_limits_of_live_codes(
        self, here: Replica, there: Replica, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        alice, bob = (operator_caller(name, Permission.DECIDE) for name in ("alice", "bob"))
        for number in range(LIVE_LIMIT_CODES_PER_CREATOR):
            await create((here, there)[number % 2], caller=alice)
        with pytest.raises(TooManySetupCodes) as raised:
            await create(there, caller=alice)
        assert raised.value.of_creator
        mine = await create(here, caller=bob)
        monkeypatch.setattr(storage, "LIVE_LIMIT_CODES", LIVE_LIMIT_CODES_PER_CREATOR + 1)
        with pytest.raises(TooManySetupCodes) as raised:
            await create(there, caller=bob)
        assert not raised.value.of_creator
        await here.setup_codes.revoke(bob, mine.code.setup_id)
        await create(there, caller=bob)

    async def test_expired_codes_make_room(self, here: Replica, clock: FakeClock) -> None:
        for _ in range(LIVE_LIMIT_CODES_PER_CREATOR):
            await create(here)
        clock.advance(LIFETIME_MS / 1000 + 1)
        await create(here)

    async def test_a_socket_without_admin(self, here: Replica) -> None:
        caller = CallerInfo("shared-secret", "x", "operator", ["operator.pairing"])
        code, _message = error(await outcome(here, call(caller, SETUP_CODE, publicUrl="wss://g")))
        assert code == "FORBIDDEN"
