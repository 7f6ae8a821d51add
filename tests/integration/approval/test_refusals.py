"""Recent refusals from gateways' heartbeats: what is stored, for whom, and how much."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from services.approval.domain.authorization import OPERATOR
from services.approval.domain.errors import NotAllowed
from services.approval.registry.queries import WantedRefusals
from services.approval.requests.dispatcher import RequestDispatcher
from services.approval.storage.keys import REFUSED, refused_key
from services.approval.storage.refusals import (
    ADDRESSES_LIMIT,
    APART_MS,
    KEPT_MS,
    REFUSED_ADDRESSES,
    REFUSED_ROWS,
    REPORTS_LIMIT,
    ROWS_PER_ADDRESS,
)
from services.gateway.replication.recent_refusals import REFUSALS_PER_BEAT_ENTRIES
from shared.rpc.messages import (
    BeatAnswer,
    BeatQuestion,
    Position,
    RefusalReport,
    Seen,
    decode_beat_answer,
    encode,
)
from shared.rpc.responder import Question
from tests.unit.approval.callers import device_token
from tests.unit.approval.devices import Device

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


@pytest.fixture
async def paired(here: Replica) -> str:
    device = Device.new()
    await here.pair(device)
    return device.device_id


class TestWhatIsShown:
    async def test_everything_of_a_paired_device(
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

    async def test_a_device_that_waits(self, here: Replica, operator: Operator) -> None:
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
        assert [one["proven"] for one in await listed(operator, f"?deviceId={paired}")] == [
            False,
            True,
        ]

    async def test_after_it_was_admitted_a_refusal_is_past(
        self, here: Replica, operator: Operator, paired: str
    ) -> None:
        await tell(here, report(paired, age_ms=5_000))
        seen = Seen(paired, "operator", "token", ADDRESS, 4_000)
        beat = BeatQuestion(1, Position(), booted=False, builds_on=0, connections=0, seen=[seen])
        await here.store.beat("east", beat)
        shown = (await operator.get(f"/v1/devices/{paired}")).ok()["lastRefusal"]
        assert shown["past"]
        assert [one["past"] for one in await listed(operator)] == [True]
        await tell(here, report(paired, number=2))
        assert not (await listed(operator))[0]["past"]

    async def test_the_report_of_one_heartbeat_is_in_order(
        self, here: Replica, operator: Operator, paired: str
    ) -> None:
        for refused_age, past in ((101, True), (99, False)):
            beat = BeatQuestion(
                1,
                Position(),
                booted=False,
                builds_on=0,
                connections=0,
                seen=[Seen(paired, "operator", "token", ADDRESS, 100)],
                refused=[report(paired, age_ms=refused_age, number=refused_age)],
            )
            await beaten(here, encode(beat))
            assert [one["past"] for one in await listed(operator)] == [past]

    async def test_what_nobody_could_decide_is_no_refusal(
        self, here: Replica, operator: Operator, paired: str
    ) -> None:
        await tell(here, report(paired, "timeout", undecided=True, detail="approval"))
        (shown,) = await listed(operator)
        assert shown["undecided"]
        assert shown["title"] == "approval did not answer in time"

    @pytest.mark.parametrize("undecided", [True, False])
    async def test_a_reason_of_a_later_release(
        self, here: Replica, operator: Operator, *, undecided: bool
    ) -> None:
        await tell(here, report("", "a-new-one", undecided=undecided))
        (shown,) = await listed(operator)
        assert (shown["reason"], shown["undecided"]) == ("a-new-one", undecided)
        assert shown["title"]
        assert shown["remedy"]

    async def test_clients_without_a_device_by_address_and_reason_newest_first(
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
            (one["reason"], one.get("remoteIp"), one["count"]) for one in await listed(operator)
        ]
        assert shown == [
            ("device-required", None, 1),
            ("not-json", "2001:db8::2", 2),
            ("token-missing", ADDRESS, 1),
        ]
        assert len(await listed(operator, "?limit=2")) == 2

    async def test_of_one_device_known_or_not(
        self, here: Replica, operator: Operator, paired: str
    ) -> None:
        await tell(here, report(paired), *(report(device_id(number)) for number in range(5)))
        for one in (paired, device_id(3)):
            (shown,) = await listed(operator, f"?deviceId={one}")
            assert shown["deviceId"] == one
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
        assert [one["reason"] for one in await listed(operator)] == ["device-token-mismatch"]

    async def test_of_clients_that_are_neither_paired_nor_wait(
        self, here: Replica, operator: Operator, paired: str
    ) -> None:
        waiting = Device.new()
        await tell(here, report(waiting.device_id, age_ms=1_000), report(device_id(1)), report(""))
        await here.request(waiting.asks())
        await tell(here, report(paired), report(waiting.device_id, "not-paired", number=2))
        assert len(await listed(operator)) == 4
        shown = await listed(operator, "?of=unknown")
        assert {one.get("deviceId", "") for one in shown} == {device_id(1), ""}
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

    async def test_it_is_no_change(self, here: Replica, operator: Operator, paired: str) -> None:
        head = await here.registry.head()
        before = (await operator.get("/v1/replicas")).ok()["refusalsVersion"]
        await tell(here, report(paired), report(""))
        assert await here.registry.head() == head
        assert (await operator.get("/v1/replicas")).ok()["refusalsVersion"] == before + 1
        assert len(await here.registry.audit(OPERATOR, 0, 100)) == head.number


class TestCounting:
    async def count(self, here: Replica, device: str) -> int:
        (found,) = await here.store.refusals.of_device(device, 1)
        return found.count

    @pytest.mark.parametrize("known", [True, False])
    async def test_what_is_reported_twice_counts_once(
        self, here: Replica, paired: str, *, known: bool
    ) -> None:
        device = paired if known else device_id(1)
        await tell(here, report(device, count=3))
        await tell(here, report(device, count=3))
        await tell(here, report(device, count=5))
        await tell(here, report(device, count=4))  # a late, older heartbeat
        assert await self.count(here, device) == 5
        await tell(here, report(device, count=6, confirmed=5))
        await tell(here, report(device, count=2, number=2))
        assert await self.count(here, device) == 8

    async def test_all_gateways_count_together(self, here: Replica, paired: str) -> None:
        await tell(here, report(paired, count=3))
        await tell(here, report(paired, count=4, number=9), gateway="west")
        await tell(here, report(paired, count=5, confirmed=3))
        assert await self.count(here, paired) == 9

    async def test_an_older_report_changes_neither_reason_nor_time(
        self, here: Replica, paired: str
    ) -> None:
        await tell(here, report(paired, "device-token-mismatch"))
        await tell(here, report(paired, age_ms=30_000, number=2), gateway="west")
        (found,) = await here.store.refusals.of_device(paired, 1)
        assert (found.reason, found.replica) == ("device-token-mismatch", "east")
        await tell(
            here,
            report(paired, "device-token-mismatch", age_ms=30_000, number=3, detail="old"),
            gateway="west",
        )
        (again,) = await here.store.refusals.of_device(paired, 1)
        assert (again.at, again.count, again.detail) == (found.at, 2, "")
        assert again.first < found.first

    async def test_after_a_long_pause_it_is_counted_anew(self, here: Replica, paired: str) -> None:
        long_ago = 2 * APART_MS
        await tell(here, report(paired, count=7, age_ms=long_ago, first_age_ms=long_ago))
        await tell(here, report(paired, number=2))
        assert await self.count(here, paired) == 1


class TestBounds:
    async def test_a_flood_of_invented_devices_displaces_only_its_own(self, here: Replica) -> None:
        await tell(here, report(device_id(1), address="192.0.2.1"))
        for part in range(20):
            numbers = range(50 * part + 10, 50 * part + 60)
            await tell(here, *(report(device_id(number)) for number in numbers))
        found = await here.store.refusals.recent(1000)
        assert len(found) == ROWS_PER_ADDRESS + 1
        assert {one.device for one in found if one.address == "192.0.2.1"} == {device_id(1)}
        newest = {device_id(number) for number in range(1010 - ROWS_PER_ADDRESS, 1010)}
        assert {one.device for one in found if one.address == ADDRESS} == newest

    async def test_a_flood_from_many_addresses_leaves_known_devices_alone(
        self, here: Replica, paired: str
    ) -> None:
        await tell(here, report(paired, "device-token-mismatch"))
        for part in range(12):
            numbers = range(50 * part, 50 * part + 50)
            await tell(
                here,
                *(
                    report(device_id(number), address=f"10.0.{number // 250}.{number % 250}")
                    for number in numbers
                ),
            )
        assert await here.redis.zcard(REFUSED_ADDRESSES) == ADDRESSES_LIMIT
        assert await here.redis.hlen(REFUSED_ROWS) == ADDRESSES_LIMIT
        (found,) = await here.store.refusals.of_device(paired, 1)
        assert found.reason == "device-token-mismatch"

    async def test_more_than_a_gateway_may_report_is_not_read(self, here: Replica) -> None:
        assert REPORTS_LIMIT == REFUSALS_PER_BEAT_ENTRIES
        await tell(
            here,
            *(report(device_id(one), address=f"10.0.0.{one}") for one in range(REPORTS_LIMIT + 50)),
        )
        assert await here.redis.hlen(REFUSED_ROWS) == REPORTS_LIMIT

    async def test_everything_expires(self, here: Replica, paired: str) -> None:
        await tell(here, report(paired), report(""))
        for key in (refused_key(paired), REFUSED, REFUSED_ADDRESSES, REFUSED_ROWS):
            assert KEPT_MS - 60_000 < await here.redis.pttl(key) <= KEPT_MS

    async def test_what_is_older_than_a_day_is_gone(self, here: Replica, paired: str) -> None:
        old = report("", age_ms=KEPT_MS, address="192.0.2.9")
        await tell(here, old, report(paired, age_ms=KEPT_MS))
        await asyncio.sleep(0.01)
        await tell(here, report(""))
        assert await here.redis.hkeys(REFUSED_ROWS) == [ADDRESS.encode()]
        assert await here.redis.zrange(REFUSED, 0, -1) == []

    async def test_how_many_bytes_a_refused_device_takes(self, here: Replica, paired: str) -> None:
        """The figure in docs/performance.md."""
        full = {"client_id": "openclaw-control-ui", "display_name": "n" * 64, "detail": "d" * 128}
        await tell(
            here,
            report(paired, "device-token-mismatch", **full),
            report(paired, "device-signature-stale", **full, proven=False),
        )
        assert await here.redis.memory_usage(refused_key(paired)) <= 1_100


class TestHeartbeats:
    async def test_a_heartbeat_is_answered_although_its_refusals_cannot_be_written(
        self, here: Replica
    ) -> None:
        await here.redis.set(REFUSED_ROWS, "of a wrong type")
        beat = BeatQuestion(
            1, Position(), booted=False, builds_on=0, connections=0, refused=[report("")]
        )
        assert (await beaten(here, encode(beat))).beat_id == 1

    async def test_a_heartbeat_of_the_previous_release_reports_none(
        self, here: Replica, operator: Operator
    ) -> None:
        beat = BeatQuestion(1, Position(), booted=False, builds_on=0, connections=0)
        older = msgspec.msgpack.encode(msgspec.msgpack.decode(encode(beat))[:-1])
        assert (await beaten(here, older)).beat_id == 1
        assert await listed(operator) == []


async def beaten(here: Replica, body: bytes) -> BeatAnswer:
    """Answer a gateway's heartbeat as it arrives over the bus."""
    questions = RequestDispatcher(
        here.admissions, here.methods, here.store, here.metrics, here.places
    )
    (reply,) = await questions.dispatch([Question("east", msgspec.Raw(body))])
    assert isinstance(reply, asyncio.Future)
    answer = await reply
    assert isinstance(answer, bytes)
    return decode_beat_answer(answer)
