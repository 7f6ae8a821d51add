"""Import of devices over the HTTP API, on a real Redis."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import pytest

from services.approval.domain.authorization import OPERATOR, operator_caller
from services.approval.domain.errors import NotAllowed
from services.approval.domain.permissions import Permission
from services.approval.imports.records import TOKEN_ACCEPTED_MS
from services.approval.imports.service import Part
from shared.rpc.messages import Admitted, Denied, NeedsPairing
from tests.integration.approval.replica import everything
from tests.support.approval.devices import Device

if TYPE_CHECKING:
    from tests.integration.approval.operator import Operator
    from tests.integration.approval.replica import Replica
    from tests.support.clock import FakeClock
    from tools.support.processes.redis import RedisServer

IMPORT_ID: Final = "0123456789abcdef"
THEIRS: Final = "token-that-openclaw-issued-to-the-device-00"
READ: Final = ["operator.read"]
DENIED: Final = "device-token-mismatch"


def entry(device: Device, *, token: str = THEIRS, **other: Any) -> dict[str, Any]:
    """Return a device as an import states it."""
    scopes = other.get("scopes", READ)
    return {
        "deviceId": device.device_id,
        "publicKey": device.public_key,
        "displayName": "Kitchen",
        "operatorLabel": "by the sink",
        "clientId": "cli",
        "clientMode": "cli",
        "platform": "linux",
        "deviceFamily": "Linux",
        "address": "203.0.113.9",
        "role": "operator",
        "roles": ["operator"],
        "scopes": READ,
        "tokens": [{"role": "operator", "scopes": scopes, "createdAtMs": 1, "token": token}],
        "createdAtMs": 1,
        "approvedAtMs": 2,
        **other,
    }


def part(*devices: dict[str, Any], import_id: str = IMPORT_ID, **other: Any) -> dict[str, Any]:
    return {"importId": import_id, "devices": list(devices), **other}


async def imported(operator: Operator, *devices: dict[str, Any], **other: Any) -> list[Any]:
    """Import devices; return what happened to each."""
    found: list[Any] = (await operator.post("/v1/import", part(*devices, **other))).ok()["devices"]
    return found


async def outcomes(operator: Operator, *devices: dict[str, Any], **other: Any) -> list[str]:
    return [one["outcome"] for one in await imported(operator, *devices, **other)]


class TestTakingOver:
    async def test_a_device_with_its_rights_and_label(
        self, here: Replica, operator: Operator
    ) -> None:
        device = Device.new()
        assert await imported(operator, entry(device)) == [
            {"deviceId": device.device_id, "outcome": "added", "returnsWith": "its-token"}
        ]
        (shown,) = (await operator.get("/v1/devices")).ok()["devices"]
        assert shown["displayName"] == "Kitchen"
        assert shown["operatorLabel"] == "by the sink"
        assert shown["scopes"] == READ
        assert shown["remoteIp"] == "203.0.113.9"
        until_ms = shown["tokens"][0]["importedUntilMs"]
        assert until_ms == here.store.now_ms() + TOKEN_ACCEPTED_MS
        (audited,) = await operator.audit()
        assert audited["action"] == "imported"
        assert audited["actor"] == "operator:admin"
        assert audited["label"] == f"import {IMPORT_ID}"

    async def test_it_is_admitted_with_the_gateway_token(
        self, here: Replica, operator: Operator
    ) -> None:
        device = Device.new()
        await imported(operator, entry(device, token=""))
        assert (await here.admit(device.asks())).device_token

    async def test_a_dry_run_changes_nothing(self, here: Replica, operator: Operator) -> None:
        device = Device.new()
        planned = await imported(
            operator, entry(device, scopes=["operator.admin"], token=""), dryRun=True
        )
        assert planned == [
            {
                "deviceId": device.device_id,
                "outcome": "added",
                "grantsAdmin": True,
                "returnsWith": "gateway-token",
            }
        ]
        assert await operator.audit() == []
        assert isinstance(await here.answer(device.asks()), NeedsPairing)

    async def test_its_pending_request_ends(self, here: Replica, operator: Operator) -> None:
        device = Device.new()
        await here.request(device.asks())
        await imported(operator, entry(device))
        assert await operator.pending_ids() == []
        assert [one["action"] for one in await operator.audit()] == [
            "requested",
            "expired",
            "imported",
        ]

    async def test_tokens_have_no_scopes_beyond_those_approved(
        self, here: Replica, operator: Operator
    ) -> None:
        device = Device.new()
        scopes = ["operator.admin", "operator.read", "node.run"]
        tokens = [
            {"role": role, "scopes": scopes, "createdAtMs": 1} for role in ("operator", "node")
        ]
        await imported(operator, entry(device, roles=["operator", "node"], tokens=tokens))
        (shown,) = (await operator.get("/v1/devices")).ok()["devices"]
        held = {token["role"]: token["scopes"] for token in shown["tokens"]}
        assert held == {"operator": READ, "node": []}
        wider = await here.request(device.asks(("operator.admin",)))
        assert wider.reason == "scope-upgrade"

    async def test_a_revoked_role_stays_revoked(self, here: Replica, operator: Operator) -> None:
        device = Device.new()
        revoked = {"role": "operator", "scopes": READ, "createdAtMs": 1, "revokedAtMs": 5}
        (found,) = await imported(operator, entry(device, tokens=[{**revoked, "token": THEIRS}]))
        assert found["returnsWith"] == "approval"
        with_token = await here.answer(device.asks(token=THEIRS))
        assert isinstance(with_token, Denied)
        assert (await here.request(device.asks())).reason == "role-upgrade"


class TestEarlierToken:
    async def test_it_is_accepted_once_and_exchanged(
        self, here: Replica, operator: Operator
    ) -> None:
        device = Device.new()
        await imported(operator, entry(device))
        admitted = await here.admit(device.asks(token=THEIRS))
        assert admitted.device_token != THEIRS
        again = await here.answer(device.asks(token=THEIRS))
        assert isinstance(again, Denied)
        assert again.why == DENIED
        ours = await here.admit(device.asks(token=admitted.device_token))
        assert ours.device_token == admitted.device_token
        assert (await operator.audit())[-1]["action"] == "token-exchanged"

    async def test_of_clients_at_the_same_time_one_is_admitted(
        self, here: Replica, operator: Operator
    ) -> None:
        device = Device.new()
        await imported(operator, entry(device))
        answers = await asyncio.gather(*(here.answer(device.asks(token=THEIRS)) for _ in range(20)))
        assert sum(isinstance(one, Admitted) for one in answers) == 1
        assert sum(isinstance(one, Denied) for one in answers) == 19

    async def test_a_retry_of_the_same_connect_gets_the_same_answer(
        self, here: Replica, operator: Operator
    ) -> None:
        device = Device.new()
        await imported(operator, entry(device))
        first, second = [
            await here.admit(device.asks(token=THEIRS, call_id="one call")) for _ in range(2)
        ]
        assert first.device_token == second.device_token

    async def test_not_after_its_time(
        self, here: Replica, operator: Operator, clock: FakeClock
    ) -> None:
        device = Device.new()
        await imported(operator, entry(device))
        clock.advance(TOKEN_ACCEPTED_MS / 1000)
        assert isinstance(await here.answer(device.asks(token=THEIRS)), Denied)
        assert (await here.admit(device.asks())).device_token

    async def test_not_of_another_device_or_role(self, here: Replica, operator: Operator) -> None:
        device, other = Device.new(), Device.new()
        await imported(operator, entry(device), entry(other, token="another token of openclaw"))
        assert isinstance(await here.answer(other.asks(token=THEIRS)), Denied)
        as_node = await here.answer(device.asks((), role="node", token=THEIRS))
        assert isinstance(as_node, Denied)

    @pytest.mark.parametrize("change", ["rotate", "revoke", "gateway token"])
    async def test_not_after_the_token_changed(
        self, here: Replica, operator: Operator, change: str
    ) -> None:
        device = Device.new()
        await imported(operator, entry(device))
        if change == "rotate":
            await here.registry.rotate(OPERATOR, device.device_id, "operator")
        elif change == "revoke":
            await here.registry.revoke(OPERATOR, device.device_id, "operator")
        else:
            await here.admit(device.asks())
        assert isinstance(await here.answer(device.asks(token=THEIRS)), Denied)

    async def test_scopes_beyond_the_token_are_not_granted(
        self, here: Replica, operator: Operator
    ) -> None:
        device = Device.new()
        await imported(operator, entry(device))
        answer = await here.answer(device.asks(("operator.admin",), token=THEIRS))
        assert isinstance(answer, Denied)

    async def test_it_is_nowhere_in_redis_or_in_a_backup(
        self, operator: Operator, redis_server: RedisServer
    ) -> None:
        device = Device.new()
        await imported(operator, entry(device))
        assert THEIRS.encode() not in b"".join((await everything(redis_server.admin_url)).values())
        backup = (await operator.get("/v1/backup")).text
        assert device.device_id in backup
        assert THEIRS not in backup
        assert '"imported"' not in backup.partition('"audit"')[0]


class TestInParts:
    async def test_what_is_paired_already_stays_as_it_is(
        self, here: Replica, operator: Operator
    ) -> None:
        device = await here.paired()
        wider = entry(device, scopes=["operator.read", "operator.admin"])
        assert await outcomes(operator, entry(device)) == ["exists"]
        assert await outcomes(operator, wider, import_id="1" * 16) == ["differs"]
        (shown,) = (await operator.get("/v1/devices")).ok()["devices"]
        assert shown["scopes"] == READ
        assert "operatorLabel" not in shown
        assert isinstance(await here.answer(device.asks(token=THEIRS)), Denied)

    async def test_another_import_completes_an_interrupted_one(self, operator: Operator) -> None:
        devices = [entry(Device.new()) for _ in range(6)]
        assert await outcomes(operator, *devices[:4]) == ["added"] * 4
        again = await outcomes(operator, *devices, import_id="2" * 16)
        assert again == ["exists"] * 4 + ["added"] * 2

    async def test_a_part_sent_again_gets_its_first_answer(self, operator: Operator) -> None:
        devices = [entry(Device.new()) for _ in range(3)]
        assert await outcomes(operator, *devices) == ["added"] * 3
        assert await outcomes(operator, *devices) == ["added"] * 3
        assert len(await operator.audit()) == 3

    async def test_both_of_two_imports_at_once_are_whole(
        self, here: Replica, operator: Operator
    ) -> None:
        devices = [entry(Device.new()) for _ in range(20)]
        found = await asyncio.gather(
            *(outcomes(operator, *devices, import_id=str(number) * 16) for number in range(4))
        )
        assert sorted(found) == [["added"] * 20, *[["exists"] * 20] * 3]
        assert await here.store.count_paired() == 20


class TestRefused:
    @pytest.mark.parametrize(
        ("changed", "why"),
        [
            ({"deviceId": "a" * 64}, "its id does not match its key"),
            ({"deviceId": "../../head"}, "its id does not match its key"),
            ({"publicKey": "no key"}, "its public key is invalid"),
            ({"scopes": ["admin"], "tokens": []}, "its scope admin belongs to none of its roles"),
            ({"scopes": ["node.read"], "tokens": []}, "belongs to none of its roles"),
            ({"role": "node"}, "it has a role that was not approved"),
            ({"roles": ["operator", "operator"]}, "it has a role twice"),
        ],
    )
    async def test_one_device_and_not_the_others(
        self, here: Replica, operator: Operator, changed: dict[str, Any], why: str
    ) -> None:
        sound = Device.new()
        found = await imported(operator, entry(Device.new(), **changed), entry(sound))
        assert [one["outcome"] for one in found] == ["refused", "added"]
        assert why in found[0]["why"]
        assert await here.store.paired_ids() == [sound.device_id]

    async def test_a_device_that_is_there_twice(self, operator: Operator) -> None:
        device = Device.new()
        assert await outcomes(operator, entry(device), entry(device)) == ["added", "refused"]

    async def test_an_unreadable_record_stays(self, here: Replica, operator: Operator) -> None:
        device = Device.new()
        await here.redis.set(f"latchkey:device:{device.device_id}", b"0" * 16 + b"\xc1")
        found = await imported(operator, entry(device))
        assert found[0]["outcome"] == "refused"
        assert "cannot be read" in found[0]["why"]

    @pytest.mark.parametrize(
        "changed",
        [
            {"role": "admin"},
            {"scopes": ["operator.x"] * 255},
            {"displayName": "x" * 129},
            {"approvedVia": "magic"},
            {"surprise": 1},
        ],
    )
    async def test_a_part_that_is_malformed(
        self, here: Replica, operator: Operator, changed: dict[str, Any]
    ) -> None:
        reply = await operator.post("/v1/import", part(entry(Device.new(), **changed)))
        reply.problem(400, "malformed")
        assert await here.store.count_paired() == 0

    async def test_whoever_may_only_decide(self, here: Replica) -> None:
        caller = operator_caller("nightshift", Permission.DECIDE)
        with pytest.raises(NotAllowed):
            await here.imports.run(caller, Part(IMPORT_ID, [], dry_run=True))
