"""Recent refusals, reported by heartbeats: what is shown, and to whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from services.approval.domain.authorization import OPERATOR
from services.approval.domain.errors import NotAllowed
from services.approval.registry.queries import WantedRefusals
from shared.rpc.messages import HeartbeatQuestion, Position, encode
from shared.rpc.reports import Seen
from tests.integration.approval.heartbeats.refusal_reports import (
    ADDRESS,
    beaten,
    device_id,
    listed,
    report,
    tell,
)
from tests.support.approval.callers import device_token
from tests.support.approval.devices import Device

if TYPE_CHECKING:
    from tests.integration.approval.operator import Operator
    from tests.integration.approval.replica import Replica


class TestWhatIsShown:
    async def test_a_paired_device_shows_all_fields_of_its_refusal(
        self, here: Replica, operator: Operator, paired: str
    ) -> None:
        await tell(
            here,
            report(
                paired,
                "device-token-mismatch",
                count=3,
                age_ms=2_000,
                first_age_ms=60_000,
                client_id="cli",
                display_name="<b>Kitchen</b>",
                detail="a fact",
            ),
        )
        device = (await operator.get(f"/v1/devices/{paired}")).ok()
        assert (await operator.get("/v1/devices")).ok()["devices"] == [device]
        shown = device["lastRefusal"]
        assert await listed(operator) == [shown]
        assert "lastRefusedClaim" not in device
        seconds, _ = await here.redis.time()
        now_ms = 1000 * seconds
        assert abs(now_ms - 2_000 - shown.pop("lastAtMs")) < 5_000
        assert abs(now_ms - 60_000 - shown.pop("firstAtMs")) < 5_000
        assert "gateway token" in shown.pop("remedy")
        assert shown == {
            "deviceId": paired,
            "proven": True,
            "undecided": False,
            "reason": "device-token-mismatch",
            "title": "its device token is not valid",
            "cause": "device-token-void",
            "detail": "a fact",
            "count": 3,
            "past": False,
            "remoteIp": ADDRESS,
            "replica": "east",
            "clientId": "cli",
            "displayName": "<b>Kitchen</b>",
        }

    async def test_a_waiting_request_shows_its_last_refusal(
        self, here: Replica, operator: Operator
    ) -> None:
        asked = await here.request(Device.new().asks())
        (request,) = (await operator.get("/v1/requests")).ok()["pending"]
        assert "lastRefusal" not in request
        await tell(here, report(request["deviceId"], "not-paired", detail=asked.request_id))
        (request,) = (await operator.get("/v1/requests")).ok()["pending"]
        assert request["lastRefusal"]["reason"] == "not-paired"
        assert request["lastRefusal"]["detail"] == asked.request_id

    async def test_an_unproven_claim_to_be_a_device_is_listed_apart_from_it(
        self, here: Replica, operator: Operator, paired: str
    ) -> None:
        await tell(here, report(paired, "device-token-mismatch"))
        for number in range(40):
            claim = report(
                paired, "device-signature", proven=False, number=number, address=f"10.0.0.{number}"
            )
            await tell(here, claim, gateway=f"g{number % 3}")
        device = (await operator.get(f"/v1/devices/{paired}")).ok()
        assert device["lastRefusal"]["reason"] == "device-token-mismatch"
        assert device["lastRefusedClaim"]["reason"] == "device-signature"
        assert device["lastRefusedClaim"]["count"] == 40
        assert [item["proven"] for item in await listed(operator, f"?deviceId={paired}")] == [
            False,
            True,
        ]

    async def test_after_it_was_admitted_a_refusal_is_past(
        self, here: Replica, operator: Operator, paired: str
    ) -> None:
        await tell(here, report(paired, age_ms=5_000))
        seen = Seen(paired, "operator", "token", ADDRESS, 4_000)
        beat = HeartbeatQuestion(
            1, Position(), booted=False, builds_on=0, connections=0, seen=[seen]
        )
        await here.store.heartbeats.answer("east", beat)
        shown = (await operator.get(f"/v1/devices/{paired}")).ok()["lastRefusal"]
        assert shown["past"]
        assert [item["past"] for item in await listed(operator)] == [True]
        await tell(here, report(paired, number=2))
        assert not (await listed(operator))[0]["past"]

    async def test_the_report_of_one_heartbeat_is_in_order(
        self, here: Replica, operator: Operator, paired: str
    ) -> None:
        for refused_age, past in ((101, True), (99, False)):
            beat = HeartbeatQuestion(
                1,
                Position(),
                booted=False,
                builds_on=0,
                connections=0,
                seen=[Seen(paired, "operator", "token", ADDRESS, 100)],
                refused=[report(paired, age_ms=refused_age, number=refused_age)],
            )
            await beaten(here, encode(beat))
            assert [item["past"] for item in await listed(operator)] == [past]

    async def test_what_nobody_could_decide_is_no_refusal(
        self, here: Replica, operator: Operator, paired: str
    ) -> None:
        await tell(here, report(paired, "timeout", undecided=True, detail="approval"))
        (shown,) = await listed(operator)
        assert shown["undecided"]
        assert shown["title"] == "approval did not answer in time"

    @pytest.mark.parametrize("undecided", [True, False])
    async def test_a_reason_of_a_later_release_is_shown(
        self, here: Replica, operator: Operator, *, undecided: bool
    ) -> None:
        await tell(here, report("", "a-new-one", undecided=undecided))
        (shown,) = await listed(operator)
        assert (shown["reason"], shown["undecided"]) == ("a-new-one", undecided)
        assert shown["title"]
        assert shown["remedy"]

    async def test_clients_without_a_device_are_listed_by_address_and_reason(
        self, here: Replica, operator: Operator
    ) -> None:
        await tell(
            here,
            report("", "token-missing", age_ms=3_000),
            report("", "not-json", age_ms=2_000, address="2001:db8::1"),
            report("", "not-json", age_ms=1_000, address="2001:db8::2", number=2),
            report("", "device-required", address="127.0.0.1"),
        )
        shown = [
            (item["reason"], item.get("remoteIp"), item["count"]) for item in await listed(operator)
        ]
        assert shown == [
            ("device-required", None, 1),
            ("not-json", "2001:db8::2", 2),
            ("token-missing", ADDRESS, 1),
        ]
        assert len(await listed(operator, "?limit=2")) == 2

    async def test_refusals_of_one_device_are_listed_whether_it_is_known_or_not(
        self, here: Replica, operator: Operator, paired: str
    ) -> None:
        await tell(here, report(paired), *(report(device_id(number)) for number in range(5)))
        for item in (paired, device_id(3)):
            (shown,) = await listed(operator, f"?deviceId={item}")
            assert shown["deviceId"] == item
        assert await listed(operator, f"?deviceId={device_id(9)}") == []
        for bad in ("x", "A" * 64, "0" * 63, "0" * 64 + "%0A"):
            assert (await operator.get(f"/v1/refusals?deviceId={bad}")).status == 400

    async def test_what_was_refused_before_a_device_was_known_is_not_shown_twice(
        self, here: Replica, operator: Operator
    ) -> None:
        device = Device.new()
        await tell(here, report(device.device_id, age_ms=1_000))
        await here.pair(device)
        await tell(here, report(device.device_id, "device-token-mismatch", number=2))
        assert [item["reason"] for item in await listed(operator)] == ["device-token-mismatch"]

    async def test_clients_that_are_neither_paired_nor_pending_are_listed(
        self, here: Replica, operator: Operator, paired: str
    ) -> None:
        waiting = Device.new()
        await tell(here, report(waiting.device_id, age_ms=1_000), report(device_id(1)), report(""))
        await here.request(waiting.asks())
        await tell(here, report(paired), report(waiting.device_id, "not-paired", number=2))
        assert len(await listed(operator)) == 4
        shown = await listed(operator, "?of=unknown")
        assert {row.get("deviceId", "") for row in shown} == {device_id(1), ""}
        assert len(await listed(operator, "?of=unknown&limit=1")) == 1

    async def test_it_is_forgotten_with_the_device(
        self, here: Replica, operator: Operator, paired: str
    ) -> None:
        await tell(here, report(paired))
        (await operator.call("DELETE", f"/v1/devices/{paired}")).ok()
        assert await listed(operator) == []

    async def test_only_operators_read_it(self, here: Replica, paired: str) -> None:
        caller = device_token(Device.new())
        for reading in (
            here.registry.refusals(caller, WantedRefusals(1)),
            here.registry.refusals_of(caller, [paired]),
        ):
            with pytest.raises(NotAllowed):
                await reading

    async def test_a_refusal_is_not_a_change(
        self, here: Replica, operator: Operator, paired: str
    ) -> None:
        head = await here.registry.head()
        before = (await operator.get("/v1/replicas")).ok()["refusalsVersion"]
        await tell(here, report(paired), report(""))
        assert await here.registry.head() == head
        assert (await operator.get("/v1/replicas")).ok()["refusalsVersion"] == before + 1
        assert len(await here.registry.audit(OPERATOR, 0, 100)) == head.number
