"""Backup and restore with the command and real processes: devices keep their tokens."""

from __future__ import annotations

import asyncio
import stat
from typing import TYPE_CHECKING

import pytest

from shared.device.handshake import Admitted
from shared.device.profile import CLI, CLI_3, NODE_HOST
from tests.e2e.command.terminal import Terminal
from tools.support.actors import Operator, SimulatedDevice, pair, wait_for_log
from tools.support.processes.stack import Stack

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartStack
    from tests.e2e.callers import Callers
    from tests.e2e.command.terminal import Ended

SECONDS = 20


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    """Two approvals and two gateways with high connection limits, for the whole module."""
    return start_stack(approvals=2, gateways=2)


@pytest.fixture(autouse=True)
async def _emptied(stack: Stack) -> None:
    """Start with no paired device, once the gateways have applied that."""
    stack.redis.call("FLUSHALL")
    for service in stack.services:
        await service.until_ready()


async def paired_of_each_kind(stack: Stack) -> list[SimulatedDevice]:
    return [await pair(stack, profile) for profile in (CLI, CLI_3, NODE_HOST)]


async def backed_up(terminal: Terminal, directory: Path) -> Path:
    """Make a backup, and return its file."""
    file = directory / "backup.jsonl"
    ended = await terminal.run("backup", str(file), "--json")
    assert ended.code == 0, ended.err
    assert ended.json["file"] == str(file)
    return file


async def restored(terminal: Terminal, file: Path, *options: str) -> Ended:
    """Restore a backup, and return what the command said."""
    ended = await terminal.run("restore", str(file), "--yes", *options)
    assert ended.code == 0, ended.err
    return ended


async def not_restored(terminal: Terminal, file: Path) -> str:
    """Try a restore that must fail, and return the error's name."""
    ended = await terminal.run("restore", str(file), "--yes", "--json")
    assert ended.code == 1
    return str(ended.json["error"]["name"])


def names_in(directory: Path) -> list[str]:
    return [file.name for file in directory.iterdir()]


async def come_back_with_old_tokens(stack: Stack, devices: list[SimulatedDevice]) -> None:
    """Admit each device at each gateway with only its earlier device token."""
    for gateway in stack.gateways:
        for device in devices:
            token = device.token
            admitted = await device.reconnect(gateway, with_gateway_token=False)
            assert admitted.device_token == token
            assert device.token == token


async def test_with_a_new_redis_devices_connect_with_their_old_tokens(
    stack: Stack, terminal: Terminal, tmp_path: Path
) -> None:
    devices = await paired_of_each_kind(stack)
    waiting = SimulatedDevice(stack)
    await waiting.request_pairing(stack.gateways[0])
    file = await backed_up(terminal, tmp_path)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert names_in(tmp_path) == ["backup.jsonl"]
    text = file.read_text()
    for secret in (stack.admin_token, stack.gateway_token, *(device.token for device in devices)):
        assert secret not in text

    stack.redis.call("FLUSHALL")
    for client_device in devices:
        await client_device.request_pairing(stack.gateways[0])
    output = (await restored(terminal, file, "--json")).json
    assert output == {"file": str(file), "restored": 3, "skipped": 0}
    await come_back_with_old_tokens(stack, devices)
    async with Operator(stack, stack.approvals[1]) as operator:
        assert set(await operator.devices()) == {device.device_id for device in devices}
        assert await operator.pending() == []
    assert stack.redis.call("ACL", "LOG") == "0"


async def test_open_sockets_are_checked_again_and_reconnect(
    stack: Stack, callers: Callers, terminal: Terminal, tmp_path: Path
) -> None:
    devices = await paired_of_each_kind(stack)
    file = await backed_up(terminal, tmp_path)
    late = await pair(stack)
    inside = [
        await callers.stay(device, gateway)
        for device in (*devices, late)
        for gateway in stack.gateways
    ]
    stack.redis.call("FLUSHALL")
    await restored(terminal, file)
    closes = await asyncio.gather(*(client.client.closed(within=SECONDS) for client in inside))
    assert {close.code for close in closes} == {1012}
    for gateway in stack.gateways:
        await wait_for_log(gateway, "history.lost")
    await come_back_with_old_tokens(stack, devices)
    refused = await late.expect_refusal(stack.gateways[0], with_gateway_token=False)
    assert refused.detail_code == "AUTH_DEVICE_TOKEN_MISMATCH"
    client, _ = await devices[0].stay_connected(stack.gateways[0])
    async with client, Operator(stack, stack.approvals[0]) as operator:
        (await operator.remove(devices[0].device_id)).ok()
        assert (await client.closed()).code == 4001


async def test_while_devices_come_and_go_a_backup_is_whole(
    stack: Stack, terminal: Terminal, tmp_path: Path
) -> None:
    devices = await paired_of_each_kind(stack)
    over = asyncio.Event()

    async def come_and_go(device: SimulatedDevice) -> list[object]:
        seen: list[object] = []
        while not over.is_set():
            async with device.client(stack.gateways[0]) as client:
                seen.append(await client.connect())
        return seen

    async def pair_more() -> list[SimulatedDevice]:
        more = []
        while not over.is_set():
            more.append(await pair(stack))
        return more

    coming = [asyncio.create_task(come_and_go(device)) for device in devices]
    pairing = asyncio.create_task(pair_more())
    file = tmp_path / "backup.jsonl"
    for _ in range(3):
        ended = await terminal.run("backup", str(file), "--replace", "--json")
        assert ended.code == 0, ended.err
    over.set()
    for task in coming:
        assert all(isinstance(outcome, Admitted) for outcome in await task)
    more = await pairing
    stack.redis.call("FLUSHALL")
    count = (await restored(terminal, file, "--json")).json["restored"]
    assert 3 <= count <= 3 + len(more)
    await come_back_with_old_tokens(stack, [*devices, *more][:count])


async def test_with_another_token_secret_the_old_tokens_do_not_count(
    stack: Stack, terminal: Terminal, tmp_path: Path
) -> None:
    device = await pair(stack)
    file = await backed_up(terminal, tmp_path)
    with Stack(tmp_path / "elsewhere", approvals=1, gateways=1) as elsewhere:
        await restored(Terminal(elsewhere), file)
        (gateway,) = elsewhere.gateways
        moved = SimulatedDevice(elsewhere, key=device.key, token=device.token)
        refused = await moved.expect_refusal(gateway, with_gateway_token=False)
        assert refused.detail_code == "AUTH_DEVICE_TOKEN_MISMATCH"
        admitted = await moved.connect_once(gateway)
        assert admitted.device_token
        assert moved.token != device.token


async def test_what_is_refused_changes_nothing(
    stack: Stack, terminal: Terminal, tmp_path: Path
) -> None:
    devices = await paired_of_each_kind(stack)
    file = await backed_up(terminal, tmp_path)
    again = await terminal.run("backup", str(file))
    assert again.code == 1
    assert "--replace" in again.err

    assert await not_restored(terminal, file) == "not-empty"
    unasked = await terminal.run("restore", str(file))
    assert unasked.code == 6

    stack.redis.call("FLUSHALL")
    whole = file.read_bytes()
    for broken in (whole[:-1], whole[: len(whole) // 2], whole.replace(b"cli", b"CLI", 1), b""):
        file.write_bytes(broken)
        assert await not_restored(terminal, file) == "broken-backup"
    missing = await terminal.run("restore", str(tmp_path / "nowhere"), "--yes", "--json")
    assert missing.json["error"]["name"] == "not-read"
    async with Operator(stack, stack.approvals[0]) as operator:
        assert await operator.devices() == []
        assert (await operator.call("GET", "audit")).ok()["entries"] == []
    file.write_bytes(whole)
    await restored(terminal, file)
    await come_back_with_old_tokens(stack, devices)


async def test_a_backup_that_cannot_be_read_leaves_no_file(
    stack: Stack, terminal: Terminal, tmp_path: Path
) -> None:
    terminal.env["APPROVAL_URL"] = stack.gateways[0].url
    ended = await terminal.run("backup", str(tmp_path / "backup.jsonl"))
    assert ended.code == 3
    assert names_in(tmp_path) == []
