"""The command `latchkey` against a real stack, from the first request to revocation."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from shared.version import VERSION
from tools.support.actors import Operator, SimulatedDevice
from tools.support.waiting import until

if TYPE_CHECKING:
    from tests.conftest import StartStack
    from tests.e2e.command.terminal import Terminal
    from tools.support.processes.stack import Stack


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    return start_stack(gateways=2)


async def test_an_operator_approves_renames_and_removes_a_device(
    stack: Stack, terminal: Terminal
) -> None:
    device = SimulatedDevice(stack)
    request_id = await device.request_pairing(stack.gateways[0])

    preview = await terminal.run("devices", "approve", "--latest", "--json")
    assert preview.code == 6
    assert preview.json["selected"]["requestId"] == request_id

    approving = await terminal.start("devices", "approve", request_id, "--yes", "--json")
    await until(lambda: approved(stack, device.device_id), "it is approved")
    client, admitted = await device.stay_connected(stack.gateways[1])
    async with client:
        out, _ = await approving.communicate()
        assert approving.returncode == 0
        done = json.loads(out)
        assert done["device"]["deviceId"] == device.device_id
        assert done["online"]["replica"] == admitted.replica == stack.gateways[1].boot_id

        listed = await terminal.run("devices", "list")
        assert f"Online at {admitted.replica[:12]}" in listed.out
        renamed = await terminal.run("devices", "rename", device.device_id[:12], "Kitchen Mac")
        assert renamed.code == 0
        gateways = (await terminal.run("replicas", "--json")).json["gateways"]
        assert {gateway["bootId"] for gateway in gateways} == {
            gateway.boot_id for gateway in stack.gateways
        }

        removed = await terminal.run("devices", "remove", device.device_id[:12], "--yes")
        assert "Removed Kitchen Mac" in removed.out
        assert (await client.closed()).code == 4001

    audit = await terminal.run("audit", "--device", device.device_id, "--json")
    actions = [entry["action"] for entry in audit.json["entries"]]
    assert actions == ["requested", "approved", "renamed", "removed"]


async def test_the_one_that_was_seen_is_approved_and_the_newcomer_waits(
    stack: Stack, terminal: Terminal, operator: Operator
) -> None:
    seen, newcomer = SimulatedDevice(stack), SimulatedDevice(stack)
    shown = await seen.request_pairing(stack.gateways[0])
    preview = await terminal.run("devices", "approve", "--latest", "--json")
    assert preview.json["selected"]["requestId"] == shown
    waits = await newcomer.request_pairing(stack.gateways[0])
    command = preview.json["approveCommand"].split()
    assert command[0] == "latchkey"
    done = await terminal.run(*command[1:], "--no-wait")
    assert done.code == 0
    await seen.connect_once(stack.gateways[1])
    assert waits in {request["requestId"] for request in await operator.pending()}


async def test_tokens_are_rotated_and_revoked(
    stack: Stack, terminal: Terminal, operator: Operator
) -> None:
    device = SimulatedDevice(stack)
    (await operator.approve(await device.request_pairing(stack.gateways[0]))).ok()
    for verb in ("rotate", "revoke"):
        client, _ = await device.stay_connected(stack.gateways[1])
        async with client:
            done = await terminal.run("devices", verb, device.device_id[:16], "--yes", "--json")
            assert done.json["role"] == "operator"
            assert (await client.closed()).code == 4001
    assert (await device.expect_refusal(stack.gateways[0])).details["reason"] == "role-upgrade"


async def test_a_watcher_sees_a_request_and_its_end(stack: Stack, terminal: Terminal) -> None:
    device = SimulatedDevice(stack)
    newest = (await terminal.run("audit", "--limit", "1", "--json")).json["next"]
    request_id = await device.request_pairing(stack.gateways[0])
    rejected = await terminal.run("devices", "reject", request_id, "--json")
    assert rejected.json == {"requestId": request_id, "deviceId": device.device_id}
    watched = await terminal.run(
        "devices", "watch", "--after", str(newest), "--count", "2", "--json"
    )
    events = [json.loads(line) for line in watched.out.splitlines()]
    assert [event["action"] for event in events] == ["requested", "rejected"]
    waits = await SimulatedDevice(stack).request_pairing(stack.gateways[0])
    words = await terminal.run("devices", "watch", "--after", str(newest), "--count", "3")
    hints = [line.strip() for line in words.out.splitlines() if "devices approve" in line]
    assert hints == [f"latchkey devices approve {waits}"]  # the other one has been rejected since


async def test_a_person_is_shown_the_request_and_asked(stack: Stack, terminal: Terminal) -> None:
    device = SimulatedDevice(stack)
    request_id = await device.request_pairing(stack.gateways[0])
    screen = await terminal.typing("n", "devices", "approve", "--latest")
    assert f"Request {request_id}" in screen.text
    assert "Approve this device? [y/N]" in screen.text
    assert "Nothing was changed." in screen.text
    assert "Error" not in screen.text
    assert screen.code == 6
    assert await device.request_pairing(stack.gateways[0]) == request_id

    screen = await terminal.typing("y", "devices", "approve", "--latest", "--no-wait")
    assert f"({request_id})." in screen.text
    assert screen.code == 0
    await device.connect_once(stack.gateways[1])


async def test_full_control_is_asked_about_a_second_time(stack: Stack, terminal: Terminal) -> None:
    device = SimulatedDevice(stack).with_scopes("operator.read", "operator.admin")
    request_id = await device.request_pairing(stack.gateways[0])
    screen = await terminal.typing("yn", "devices", "approve", request_id, "--no-wait")
    assert "change every setting of the gateway" in " ".join(screen.text.split())
    assert "Approve it with full control? [y/N]" in screen.text
    assert screen.code == 6
    assert await device.request_pairing(stack.gateways[0]) == request_id

    screen = await terminal.typing("yy", "devices", "approve", request_id, "--no-wait")
    assert screen.code == 0
    assert "operator.admin" in (await device.connect_once(stack.gateways[1])).scopes


async def test_all_from_one_address_are_rejected_as_they_were_shown(
    stack: Stack, terminal: Terminal, operator: Operator
) -> None:
    ids = {await SimulatedDevice(stack).request_pairing(stack.gateways[0]) for _ in range(3)}
    screen = await terminal.typing("n", "devices", "reject", "--from", "127.0.0.1")
    assert screen.code == 6
    assert ids <= {request["requestId"] for request in await operator.pending()}
    done = await terminal.run("devices", "reject", "--from", "127.0.0.1", "--yes", "--json")
    assert ids <= {item["requestId"] for item in done.json["rejected"]}
    assert await operator.pending() == []


async def test_replicas_tell_their_release_and_how_long_they_have_been_running(
    stack: Stack, terminal: Terminal
) -> None:
    live = (await terminal.run("replicas", "--json")).json
    for replica in (*live["gateways"], *live["approvals"]):
        assert replica["version"] == VERSION
        assert 0 <= replica["uptimeSeconds"] < 3_600
    table = (await terminal.run("replicas")).out
    for gateway in (*stack.gateways, *stack.approvals):
        (line,) = [line for line in table.splitlines() if line.startswith(f"{gateway.boot_id} ")]
        assert VERSION in line


def approved(stack: Stack, device_id: str) -> bool:
    changes = stack.approvals[0].logs()
    return any(
        line["event"] == "device.changed"
        and line["kind"] == "approved"
        and line["device"] == device_id
        for line in changes
    )
