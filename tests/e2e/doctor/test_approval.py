"""The doctor's checks of approval and Redis, and its command."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from deploy.local.ports import Reservation
from services.cli.doctor import causes
from services.cli.doctor.journey import NAME
from shared.device.client import DeviceClient
from shared.device.profile import CLI
from tests.e2e.doctor.conftest import WRONG
from tools.support.actors import Operator
from tools.support.waiting import WAIT_SECONDS, until
from tools.support.walking import findings_of, stopped_by, warned_of

if TYPE_CHECKING:
    from tools.support.processes.service import ServiceProcess
    from tools.support.processes.stack import Stack

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.usefixtures("no_lockouts")


class TestApproval:
    async def test_an_approval_at_another_address_is_found(
        self, url: str, env: dict[str, str]
    ) -> None:
        nobody = Reservation()
        there = {"APPROVAL_URL": f"http://127.0.0.1:{nobody.port}", "APPROVAL_ADMIN_TOKEN": ""}
        await warned_of(url, causes.APPROVAL_UNREACHABLE, env=env | there)
        nobody.release()

    async def test_an_approval_that_is_not_ready_is_found(
        self, url: str, env: dict[str, str]
    ) -> None:
        async def readyz(_request: web.Request) -> web.Response:
            return web.json_response({"ready": False, "bootId": "boot", "failing": ["store"]})

        app = web.Application()
        app.router.add_get("/readyz", readyz)
        async with TestServer(app) as server:
            there = {"APPROVAL_URL": str(server.make_url("")), "APPROVAL_ADMIN_TOKEN": ""}
            found = await stopped_by(url, causes.APPROVAL_NOT_READY, env=env | there)
            assert "store" in found.meaning

    async def test_its_own_checks_are_not_listed_as_refused(
        self, url: str, env: dict[str, str], stack: Stack
    ) -> None:
        await findings_of(url, env=env)
        await findings_of(url, env=env | {"OPENCLAW_GATEWAY_TOKEN": ""})
        other = replace(CLI, display_name="Not the doctor")
        async with DeviceClient(url, None, other) as client:
            await client.connect()
        listed: list[tuple[str, str]] = []
        async with Operator(stack, stack.approvals[0]) as operator, asyncio.timeout(WAIT_SECONDS):
            while ("Not the doctor", "device-required") not in listed:
                refused = (await operator.call("GET", "refusals")).ok()["refusals"]
                listed = [(one.get("displayName", ""), one["reason"]) for one in refused]
        without_secret = {"token-missing", "device-required", "control-ui-device-required"}
        assert not {reason for name, reason in listed if name == NAME} & without_secret

    async def test_warnings_about_redis_are_reported(
        self, url: str, env: dict[str, str], stack: Stack
    ) -> None:
        def set_up(**settings: str) -> None:
            for name, value in settings.items():
                stack.redis.call("CONFIG", "SET", name.replace("_", "-"), value)

        set_up(appendonly="no", maxmemory="100mb", maxmemory_policy="allkeys-lru")
        approval = stack.approvals[0]
        await until(lambda: said_of_store(approval), "approval has seen it")
        await warned_of(url, causes.APPENDONLY_OFF, env=env)
        await warned_of(url, causes.MEMORY_EVICTS, env=env)
        set_up(appendonly="yes", maxmemory="0", maxmemory_policy="noeviction")
        await until(lambda: not said_of_store(approval), "approval has seen it")
        assert all(item.cause is None for item in await findings_of(url, env=env))
        set_up(appendfsync="everysec")
        await until(lambda: said_of_store(approval), "approval has seen it")
        await warned_of(url, causes.WRITES_LATE, env=env)
        set_up(appendfsync="always")
        await until(lambda: not said_of_store(approval), "approval has seen it")

    async def test_another_bus_secret_is_found(self, env: dict[str, str], stack: Stack) -> None:
        gateway = stack._new_gateway({"BUS_SECRET": WRONG})
        gateway.start()
        gateway.wait_not_ready()
        await stopped_by(gateway.ws_url, causes.BUS_SECRETS_DIFFER, env=env)
        gateway.kill9()

    async def test_a_target_that_accepts_no_notifications_is_found(
        self, url: str, env: dict[str, str], stack: Stack
    ) -> None:
        nobody = Reservation()
        approval = stack.add_approval(
            WEBHOOK_TARGETS=f"ntfy+http://127.0.0.1:{nobody.port}/hidden",
            WEBHOOK_PRIVATE_ADDRESSES="yes",
        )
        async with Operator(stack, approval) as operator:
            (await operator.call("POST", "webhooks/ntfy-1/test", {})).ok()
            async with asyncio.timeout(WAIT_SECONDS):
                listed = ""
                while "failingSinceMs" not in listed:
                    listed = str((await operator.call("GET", "webhooks")).ok())
        there = env | {"APPROVAL_URL": approval.url}
        found = await warned_of(url, causes.NOTIFICATIONS_FAILING, env=there)
        assert "hidden" not in str(found)
        assert "webhooks test ntfy-1" in found.cure
        approval.terminate()
        approval.wait_ended()
        nobody.release()

    async def test_an_unreachable_approval_is_found(
        self, url: str, env: dict[str, str], stack: Stack
    ) -> None:
        stack.approvals[0].kill9()
        stack.gateways[0].wait_not_ready()
        await stopped_by(url, causes.APPROVAL_AWAY, env=env)
        stack.approvals[0].restart()
        stack.gateways[0].wait_ready()

    async def test_an_unreachable_redis_is_found(
        self, url: str, env: dict[str, str], stack: Stack
    ) -> None:
        stack.redis.stop()
        stack.gateways[0].wait_not_ready()
        await stopped_by(url, causes.REDIS_AWAY, env=env)
        stack.redis.start()
        for service in stack.services:
            if service.status is None:
                service.wait_ready()


class TestRailway:
    async def test_disabled_draining_is_found(self, url: str, env: dict[str, str]) -> None:
        there = env | {"RAILWAY_PROJECT_ID": "p"}
        await warned_of(url, causes.DRAINING_OFF, env=there)
        short = there | {"RAILWAY_DEPLOYMENT_DRAINING_SECONDS": "15", "DRAIN_SECONDS": "20"}
        found = await warned_of(url, causes.DRAINING_OFF, env=short)
        assert "RAILWAY_DEPLOYMENT_DRAINING_SECONDS=22" in found.cure
        drained = there | {"RAILWAY_DEPLOYMENT_DRAINING_SECONDS": "22"}
        assert all(item.cause is None for item in await findings_of(url, env=drained))


class TestCommand:
    def run(self, env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "services.cli", "doctor", *arguments],
            env=env | {"PATH": os.environ["PATH"]},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    def test_the_command_says_what_to_do(self, url: str, env: dict[str, str]) -> None:
        well = self.run(env, url)
        assert well.returncode == 0
        assert "No problem found" in well.stdout
        wrong = self.run(env | {"OPENCLAW_GATEWAY_TOKEN": WRONG}, url, "--json")
        assert wrong.returncode == 1
        report = json.loads(wrong.stdout)
        assert report["ok"] is False
        assert report["steps"][-1]["cause"] == "token-wrong"
        assert "OPENCLAW_GATEWAY_TOKEN" in report["steps"][-1]["whatToDo"]

    @pytest.mark.parametrize(
        "address", ["gateway.example", "ftp://x", "ws://", "ws://u:p@x", "ws://[x"]
    )
    def test_an_invalid_address_is_a_usage_error(self, address: str) -> None:
        assert self.run({}, address).returncode == 2


def said_of_store(approval: ServiceProcess) -> list[str]:
    """Return approval's warnings."""
    with closing(HTTPConnection("127.0.0.1", approval.port)) as connection:
        connection.request("GET", "/readyz")
        ready = json.load(connection.getresponse())
    warnings: list[str] = ready["dependencies"]["store"].get("warnings", [])
    return warnings
