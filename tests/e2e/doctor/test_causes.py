"""The doctor against a real stack: each cause is produced, then cured or undone."""

from __future__ import annotations

import re
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from services.cli.doctor import causes
from services.cli.doctor.journey import State
from shared.device.client import DeviceClient
from shared.device.handshake import Admitted
from shared.device.profile import CLI
from shared.device.state import DeviceState
from tests.e2e.doctor.conftest import WRONG
from tools.support.actors import Operator, SimulatedDevice, pair
from tools.support.proxies.websocket import Faults, proxy
from tools.support.walking import HASTY, findings_of, stopped_by, warned_of

if TYPE_CHECKING:
    from pathlib import Path

    from services.cli.doctor.cause import Cause
    from tools.support.processes.stack import Stack

LOCKED_AT = 10
"""Number of different wrong secrets within a minute."""
pytestmark = pytest.mark.usefixtures("no_lockouts")


class TestWell:
    async def test_all_steps_are_checked(self, url: str, env: dict[str, str], stack: Stack) -> None:
        findings = await findings_of(url, env=env)
        assert [finding.step for finding in findings if finding.state is State.OK] == [
            *("name", "tcp", "http", "upgrade", "challenge", "ping", "origin", "token", "device"),
            *("replicas", "health", "approval", "approval"),
        ]
        assert all(finding.cause is None for finding in findings)
        survey = next(finding.found for finding in findings if finding.step == "replicas")
        assert f"{stack.gateways[0].boot_id[:12]} (8)" in survey

    @pytest.mark.parametrize("token", ["right", "wrong"])
    async def test_the_doctor_leaves_no_device_request_or_audit_entry(
        self, url: str, env: dict[str, str], operator: Operator, token: str
    ) -> None:
        if token == "wrong":
            env = env | {"OPENCLAW_GATEWAY_TOKEN": WRONG}
        before = await everything(operator)
        await findings_of(url, env=env)
        await findings_of(url, env=env, pairing_probe=True)
        assert await everything(operator) == before

    async def test_the_doctor_is_not_paired_where_local_clients_are_trusted(
        self, env: dict[str, str], stack: Stack, operator: Operator
    ) -> None:
        gateway = stack.add_gateway(GATEWAY_LOCAL_CLIENTS="trust")
        before = await everything(operator)
        findings = await findings_of(gateway.ws_url, env=env)
        assert all(finding.cause is None for finding in findings)
        assert await everything(operator) == before
        gateway.kill9()

    async def test_a_paired_device_is_admitted(
        self, url: str, env: dict[str, str], stack: Stack, operator: Operator, tmp_path: Path
    ) -> None:
        file = await saved(SimulatedDevice(stack), tmp_path, operator)
        findings = await findings_of(url, env=env, state_file=file)
        assert all(finding.cause is None for finding in findings)
        assert "operator.read" in next(
            finding.found for finding in findings if finding.step == "scopes"
        )
        without = {"APPROVAL_URL": env["APPROVAL_URL"]}
        findings = await findings_of(url, env=without, state_file=file)
        assert "the device token is correct" in [finding.found for finding in findings]

    async def test_the_replicas_behind_a_proxy_are_found(
        self, env: dict[str, str], stack: Stack
    ) -> None:
        async with AsyncExitStack() as resources:
            first = await resources.enter_async_context(proxy(stack.gateways[0].url, Faults()))
            findings = await findings_of(first, env=env)
            assert all(finding.state is not State.WRONG for finding in findings)


class TestAddress:
    async def test_the_address_of_approval_is_found(self, stack: Stack) -> None:
        await stopped_by(stack.approvals[0].ws_url, causes.APPROVAL_ADDRESS)

    async def test_the_address_of_an_approval_with_an_ops_port_is_found(self, stack: Stack) -> None:
        with_ops = stack.add_approval(OPS_PORT="0")
        await stopped_by(with_ops.ws_url, causes.APPROVAL_ADDRESS)
        with_ops.kill9()


class TestProxies:
    async def test_a_proxy_that_drops_the_upgrade_is_found(
        self, env: dict[str, str], stack: Stack
    ) -> None:
        async with proxy(stack.gateways[0].url, Faults(drops_upgrade=True)) as url:
            found = await stopped_by(url, causes.UPGRADE_DROPPED, env=env)
            assert "proxy_set_header Upgrade" in found.cure

    async def test_a_proxy_that_drops_pings_is_found(
        self, env: dict[str, str], stack: Stack
    ) -> None:
        async with proxy(stack.gateways[0].url, Faults(eats_pings=True)) as url:
            await stopped_by(url, causes.PINGS_SWALLOWED, env=env, timeouts=HASTY)

    async def test_an_untrusted_proxy_is_found(self, env: dict[str, str], stack: Stack) -> None:
        gateway = stack.add_gateway()
        faults = Faults(headers={"X-Forwarded-For": "203.0.113.9"})
        async with proxy(gateway.url, faults) as url:
            found = await warned_of(url, causes.PROXY_UNTRUSTED, env=env)
            assert "TRUSTED_PROXIES=127.0.0.1" in found.cure
        gateway.restart(TRUSTED_PROXIES="127.0.0.1")
        async with proxy(gateway.url, faults) as url:
            findings = await findings_of(url, env=env)
            assert causes.PROXY_UNTRUSTED not in {finding.cause for finding in findings}
        gateway.kill9()

    async def test_a_proxy_with_unreadable_client_addresses_is_found(
        self, env: dict[str, str], stack: Stack
    ) -> None:
        gateway = stack.add_gateway(TRUSTED_PROXIES="127.0.0.1")
        async with proxy(gateway.url, Faults(headers={"X-Forwarded-For": "unknown"})) as url:
            found = await warned_of(url, causes.PROXY_UNREADABLE, env=env)
            assert "Configure 127.0.0.1 to send" in found.cure
        restore_stack = Faults(headers={"X-Forwarded-For": "203.0.113.9:1234"})
        async with proxy(gateway.url, restore_stack) as url:
            findings = await findings_of(url, env=env)
            assert causes.PROXY_UNREADABLE not in {finding.cause for finding in findings}
        gateway.kill9()

    async def test_a_proxy_that_changes_frames_is_found(
        self, env: dict[str, str], stack: Stack
    ) -> None:
        changed = Faults(up=lambda text: text.replace('"linux"', '"darwin"'))
        async with proxy(stack.gateways[0].url, changed) as url:
            await stopped_by(url, causes.PROOF_REFUSED, env=env)

    async def test_a_replayed_challenge_is_found(self, env: dict[str, str], stack: Stack) -> None:
        old = Faults(down=lambda text: re.sub(r'"ts":\d+', '"ts":1000', text))
        async with proxy(stack.gateways[0].url, old) as url:
            await stopped_by(url, causes.SIGNATURE_STALE, env=env)

    async def test_a_proxy_that_still_uses_a_dead_replica_is_found(
        self, env: dict[str, str], stack: Stack
    ) -> None:
        async with proxy(stack.gateways[0].url, Faults(dead_after=4)) as url:
            found = await stopped_by(url, causes.REPLICAS_DISAGREE, env=env)
            assert "4 of 8 connections failed (proxy-alone" in found.found


class TestSecrets:
    async def test_a_missing_token_is_found(self, url: str) -> None:
        await stopped_by(url, causes.TOKEN_MISSING)

    async def test_a_wrong_token_is_found(self, url: str) -> None:
        found = await stopped_by(url, causes.TOKEN_WRONG, env={"OPENCLAW_GATEWAY_TOKEN": WRONG})
        assert WRONG not in found.found + found.cure

    async def test_a_lock_out_is_found(self, url: str, env: dict[str, str]) -> None:
        for number in range(LOCKED_AT):
            wrong = env | {"OPENCLAW_GATEWAY_TOKEN": f"{WRONG}{number}"}
            await stopped_by(url, causes.TOKEN_WRONG, env=wrong)
        found = await stopped_by(url, causes.LOCKED_OUT, env=env)
        assert "wait 4 min" in found.cure

    async def test_a_revoked_device_token_is_found(
        self, url: str, stack: Stack, operator: Operator, tmp_path: Path
    ) -> None:
        device = SimulatedDevice(stack)
        file = await saved(device, tmp_path, operator)
        (await operator.call("DELETE", f"devices/{device.device_id}")).ok()
        await stopped_by(url, causes.DEVICE_TOKEN_VOID, state_file=file)

    async def test_a_wrong_admin_token_is_a_warning(self, url: str, env: dict[str, str]) -> None:
        await warned_of(url, causes.ADMIN_TOKEN_WRONG, env=env | {"APPROVAL_ADMIN_TOKEN": WRONG})


class TestOrigin:
    async def test_a_page_of_another_origin_is_found(self, url: str, env: dict[str, str]) -> None:
        there = "https://panel.example"
        found = await stopped_by(url, causes.ORIGIN_REFUSED, env=env, origin=there)
        assert f"GATEWAY_ALLOWED_ORIGINS={there}" in found.cure


class TestPairing:
    async def test_a_device_that_needs_approval_is_found(
        self, url: str, env: dict[str, str], operator: Operator, tmp_path: Path
    ) -> None:
        file = tmp_path / "device.json"
        found = await stopped_by(url, causes.PAIRING_REQUIRED, env=env, state_file=file)
        (request_id,) = re.findall(r"latchkey devices approve ([0-9a-f-]{36})", found.cure)
        (waiting,) = [
            request for request in await operator.pending() if request["requestId"] == request_id
        ]
        assert waiting.get("displayName") is None  # the device's, not the doctor's
        (await operator.approve(request_id)).ok()
        findings = await findings_of(url, env=env, state_file=file)
        assert all(finding.cause is None for finding in findings)

    async def test_a_scope_upgrade_is_found(
        self, url: str, env: dict[str, str], stack: Stack, operator: Operator, tmp_path: Path
    ) -> None:
        file = await saved(SimulatedDevice(stack), tmp_path, operator)
        more = ("operator.read", "operator.admin")
        await stopped_by(url, causes.SCOPES_PENDING, env=env, state_file=file, scopes=more)

    async def test_a_role_upgrade_is_found(
        self, url: str, env: dict[str, str], stack: Stack, operator: Operator, tmp_path: Path
    ) -> None:
        file = await saved(SimulatedDevice(stack), tmp_path, operator)
        node = {"role": "node", "scopes": ()}
        await stopped_by(url, causes.ROLE_PENDING, env=env, state_file=file, **node)

    async def test_a_changed_platform_is_found(
        self, url: str, env: dict[str, str], stack: Stack, operator: Operator, tmp_path: Path
    ) -> None:
        device = SimulatedDevice(stack, replace(CLI, platform="darwin"))
        file = await saved(device, tmp_path, operator)
        found = await stopped_by(url, causes.DETAILS_PENDING, env=env, state_file=file)
        assert device.device_id in found.cure


class TestLimits:
    async def test_too_many_unauthenticated_clients_are_found(
        self, env: dict[str, str], stack: Stack
    ) -> None:
        gateway = stack.add_gateway(GATEWAY_PREAUTH_LIMIT_PER_ADDRESS="33")
        async with AsyncExitStack() as crowd:
            for _ in range(33):
                client = DeviceClient(gateway.ws_url, None)
                await (await crowd.enter_async_context(client)).open()
            await stopped_by(gateway.ws_url, causes.TOO_MANY_SOCKETS, env=env)
        gateway.kill9()

    @pytest.mark.parametrize(
        ("limits", "cause"),
        [
            ({"": "1", "_PER_ADDRESS": "2"}, causes.FULL),
            ({"_PER_ADDRESS": "1"}, causes.ADDRESS_FULL),
        ],
        ids=["all places", "those of one address"],
    )
    async def test_places_that_devices_hold_are_found(
        self, env: dict[str, str], stack: Stack, limits: dict[str, str], cause: Cause
    ) -> None:
        device = await pair(stack)
        settings = {f"GATEWAY_CONNECTION_LIMIT{which}": value for which, value in limits.items()}
        gateway = stack.add_gateway(**settings)
        async with device.client(gateway) as client:
            assert isinstance(await client.connect(), Admitted)
            await stopped_by(gateway.ws_url, cause, env=env)
        gateway.kill9()


async def saved(device: SimulatedDevice, directory: Path, operator: Operator) -> Path:
    """Pair a device, connect it once, and save it to a file as `python -m shared.device` does."""
    gateway = device.stack.gateways[0]
    (await operator.approve(await device.request_pairing(gateway))).ok()
    admitted = await device.connect_once(gateway)
    state = DeviceState(device.key)
    state.keep_token(gateway.ws_url, "operator", admitted.device_token)
    file = directory / "device.json"
    state.save(file)
    return file


async def everything(operator: Operator) -> tuple[object, ...]:
    """Return pending requests, paired devices and the audit log."""
    paths = ("requests", "devices", "audit")
    return tuple([(await operator.call("GET", path)).ok() for path in paths])
