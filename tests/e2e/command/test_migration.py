"""Devices move from OpenClaw's own pairing to Latchkey, and back, with the command."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from shared.device.profile import CLI, NODE_HOST
from tests.support.approval.devices import Device
from tests.support.openclaw.state import (
    PAIRED,
    RELEASES,
    WITH_DATABASE,
    WITH_FILES,
    RecordedDevice,
    recorded_devices,
    write_state,
)
from tools.support.actors import Operator, SimulatedDevice, pair
from tools.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from shared.device.profile import Profile
    from tests.conftest import StartStack
    from tests.e2e.command.terminal import Terminal
    from tools.support.processes.stack import Stack

READ = "operator.read"
DEVICES = 3_000
"""So many that an import takes a second."""


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    return start_stack(approvals=2, gateways=2)


@pytest.fixture(autouse=True)
async def _emptied(stack: Stack) -> None:
    """Start with no paired device, once the gateways have applied that."""
    stack.redis.call("FLUSHALL")
    for service in stack.services:
        await service.until_ready()


def profile_of(release: str, role: str) -> Profile:
    protocol = 4 if release == WITH_DATABASE else 3
    profile = NODE_HOST if role == "node" else CLI.with_scopes(READ)
    return replace(profile, min_protocol=protocol, max_protocol=protocol)


def many_records(count: int) -> dict[str, object]:
    """Return records of devices as OpenClaw 2026.3 writes them."""
    token = {"token": "t" * 43, "role": "operator", "scopes": [READ], "createdAtMs": 1}
    devices = [Device.new() for _ in range(count)]
    return {
        one.device_id: {
            "deviceId": one.device_id,
            "publicKey": one.public_key,
            "clientId": "cli",
            "clientMode": "cli",
            "platform": "linux",
            "role": "operator",
            "roles": ["operator"],
            "scopes": [READ],
            "tokens": {"operator": token},
            "createdAtMs": 1,
            "approvedAtMs": 1,
        }
        for one in devices
    }


def returning(stack: Stack, release: str, device: RecordedDevice, role: str) -> SimulatedDevice:
    """Return a device as it comes from OpenClaw, with the token that it has from there."""
    return SimulatedDevice(
        stack, profile_of(release, role), key=device.key, token=device.tokens[role]
    )


@pytest.mark.parametrize("release", RELEASES)
async def test_devices_return_once_with_the_token_they_have(
    stack: Stack, terminal: Terminal, tmp_path: Path, release: str
) -> None:
    devices = recorded_devices(release)
    state = write_state(release, tmp_path / "state")
    ended = await terminal.run("import", "openclaw", str(state), "--yes", "--json")
    assert ended.code == 0, ended.err
    added = PAIRED[release]
    assert ended.json["counts"] == {"added": added, "exists": 0, "differs": 0, "refused": 0}
    assert ended.json["pending"] == 1

    first, second = stack.gateways
    for name in ("reader", "admin", "node", "both"):
        for role in devices[name].tokens:
            device = returning(stack, release, devices[name], role)
            old = device.token
            admitted = await device.connect_once(first, with_gateway_token=False)
            assert admitted.device_token != old
            device.token = old
            refused = await device.expect_refusal(second, with_gateway_token=False)
            assert refused.detail_code == "AUTH_DEVICE_TOKEN_MISMATCH"
            device.token = admitted.device_token
            await device.connect_once(second, with_gateway_token=False)

    revoked = returning(stack, release, devices["revoked"], "operator")
    assert await revoked.request_pairing(first)
    async with Operator(stack, stack.approvals[1]) as operator:
        entries = (await operator.call("GET", "audit?limit=100")).ok()["entries"]
    imported = [one for one in entries if one["action"] == "imported"]
    assert len(imported) == added
    assert {one["actor"] for one in imported} == {"operator:admin"}
    assert {one["label"] for one in imported} == {f"import {ended.json['importId']}"}
    log = "".join(service.log.read_text() for service in stack.services)
    for known in devices.values():
        for token in filter(None, known.tokens.values()):
            assert token not in log
    assert stack.redis.call("ACL", "LOG") == "0"


async def test_a_label_and_rights_are_taken_over(
    stack: Stack, terminal: Terminal, tmp_path: Path
) -> None:
    devices = recorded_devices(WITH_DATABASE)
    state = write_state(WITH_DATABASE, tmp_path / "state")
    await terminal.run("import", "openclaw", str(state), "--yes")
    shown = (await terminal.run("devices", "list", "--json")).json["devices"]
    by_id = {device["deviceId"]: device for device in shown}
    reader = by_id[devices["reader"].key.device_id]
    assert reader["operatorLabel"] == "Kitchen <b>& co</b>"
    assert reader["scopes"] == [READ]
    assert by_id[devices["both"].key.device_id]["roles"] == ["operator", "node"]
    assert "operator.admin" in by_id[devices["admin"].key.device_id]["scopes"]


async def test_without_tokens_devices_return_with_the_gateway_token(
    stack: Stack, terminal: Terminal, tmp_path: Path
) -> None:
    reader = recorded_devices(WITH_FILES)["reader"]
    state = write_state(WITH_FILES, tmp_path / "state")
    ended = await terminal.run("import", "openclaw", str(state), "--yes", "--no-exchange")
    assert "Return with the gateway token: 5" in ended.out
    device = returning(stack, WITH_FILES, reader, "operator")
    refused = await device.expect_refusal(stack.gateways[0], with_gateway_token=False)
    assert refused.detail_code == "AUTH_DEVICE_TOKEN_MISMATCH"
    await device.connect_once(stack.gateways[0])


async def test_the_plan_is_shown_first_and_another_run_adds_the_rest(
    stack: Stack, terminal: Terminal, tmp_path: Path
) -> None:
    state = write_state(WITH_DATABASE, tmp_path / "state")
    reader = recorded_devices(WITH_DATABASE)["reader"]
    dry = await terminal.run("import", "openclaw", str(state), "--dry-run")
    assert dry.code == 0
    assert "5 to add" in dry.out
    assert "grants full control" in dry.out
    unasked = await terminal.run("import", "openclaw", str(state))
    assert unasked.code == 6
    assert "import openclaw" in unasked.err
    async with Operator(stack, stack.approvals[0]) as operator:
        assert await operator.devices() == []

    await pair(stack, CLI.with_scopes(READ), key=reader.key)
    done = await terminal.run("import", "openclaw", str(state), "--yes", "--json")
    assert done.json["counts"] == {"added": 4, "exists": 1, "differs": 0, "refused": 0}
    again = await terminal.run("import", "openclaw", str(state), "--yes")
    assert again.code == 0
    assert "Nothing to import." in again.out


async def test_an_import_that_approval_does_not_survive_is_completed_by_another(
    stack: Stack, terminal: Terminal, tmp_path: Path
) -> None:
    """The command says how far it got, and nothing is half done."""
    records = many_records(DEVICES)
    file = tmp_path / "paired.json"
    file.write_text(json.dumps(records))
    first, second = stack.approvals
    terminal.env["APPROVAL_URL"] = first.url
    process = await terminal.start("import", "openclaw", str(file), "--yes", "--json")
    await until(lambda: int(stack.redis.call("ZCARD", "latchkey:paired")) > 0, "some are imported")
    first.kill9()
    out, _ = await process.communicate()
    assert process.returncode == 3
    message = json.loads(out)["error"]["message"]
    found = re.search(
        rf"(\d+) of {DEVICES} devices were imported; whether the next (\d+) were is unknown",
        message,
    )
    assert found is not None, message
    done, unknown = map(int, found.groups())
    paired = int(stack.redis.call("ZCARD", "latchkey:paired"))
    assert paired in {done, done + unknown}
    assert 0 < paired < DEVICES

    terminal.env["APPROVAL_URL"] = second.url
    ended = await terminal.run("import", "openclaw", str(file), "--yes", "--json")
    assert ended.code == 0, ended.err
    assert ended.json["counts"] == {
        "added": DEVICES - paired,
        "exists": paired,
        "differs": 0,
        "refused": 0,
    }
    assert int(stack.redis.call("ZCARD", "latchkey:paired")) == DEVICES
    first.start()
    await first.until_ready()


async def test_devices_are_written_into_a_database_of_openclaw(
    stack: Stack, terminal: Terminal, tmp_path: Path
) -> None:
    device = await pair(stack, CLI.with_scopes(READ))
    node = await pair(stack, NODE_HOST)
    state = write_state(WITH_DATABASE, tmp_path / "state")
    ended = await terminal.run("export", "openclaw", str(state), "--yes", "--json")
    assert ended.code == 0, ended.err
    assert (ended.json["added"], ended.json["exists"]) == (2, 0)
    with contextlib.closing(sqlite3.connect(ended.json["file"])) as connection:
        rows = connection.execute("SELECT device_id, tokens_json FROM device_pairing_paired")
        stored = {device_id: json.loads(tokens) for device_id, tokens in rows}
    assert len(stored) == 7
    token = stored[device.device_id]["operator"]
    assert token["token"] not in {device.token, node.token}
    assert len(token["token"]) == 43
    assert stored[node.device_id]["node"]["scopes"] == []
    with contextlib.closing(sqlite3.connect(ended.json["copy"])) as connection:
        (count,) = connection.execute("SELECT count(*) FROM device_pairing_paired").fetchone()
    assert count == 5
    again = await terminal.run("export", "openclaw", str(state), "--yes", "--json")
    assert (again.json["added"], again.json["copy"]) == (0, "")


async def test_there_and_back_again(stack: Stack, terminal: Terminal, tmp_path: Path) -> None:
    """What is exported can be imported: the same devices with the same rights."""
    device = await pair(stack, CLI.with_scopes(READ, "operator.pairing"))
    directory = tmp_path / "openclaw"
    directory.mkdir()
    await terminal.run("export", "openclaw", str(directory), "--yes")
    file = directory / "devices" / "paired.json"
    assert file.stat().st_mode & 0o777 == 0o600
    before = (await terminal.run("devices", "list", "--json")).json["devices"]
    stack.redis.call("FLUSHALL")
    for service in stack.services:
        await service.until_ready()
    ended = await terminal.run("import", "openclaw", str(directory), "--yes")
    assert ended.code == 0, ended.err
    after = (await terminal.run("devices", "list", "--json")).json["devices"]
    for name in ("deviceId", "publicKey", "role", "roles", "scopes", "approvedAtMs"):
        assert after[0][name] == before[0][name]
    await device.connect_once(stack.gateways[0])
