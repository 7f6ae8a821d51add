"""The API does what its OpenAPI description says, whatever it receives (`GET /openapi.json`).

`GET /v1/events` is excluded because it does not end: its events are checked against the description
in tests/integration/approval/api/test_events.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import itertools
import json
import os
import random
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from structlog.testing import capture_logs

from services.approval.api.operations import OPERATIONS
from services.approval.api.public import METRICS, PAGES
from services.approval.domain.authorization import OPERATOR
from services.approval.domain.lockout import FAILURES_LIMIT
from services.approval.domain.permissions import Permission
from services.approval.domain.rules import LIFE_LIMIT_MS, RULES_LIMIT, Rule
from services.approval.schemas.lockouts import Credential
from services.approval.storage.keys import RULES
from shared.clock import SystemClock
from tests.integration.approval.operator import BEARER
from tests.integration.approval.replica import Replica, replica
from tests.support.approval.devices import Device

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tools.support.processes.redis import RedisServer

HERE: Final = Path(__file__).parent
CASES_PER_OPERATION: Final = 10
RUN_SECONDS: Final = 150.0
"""Timeout of a run; on an idle machine it takes less than 20 s."""
ENDLESS: Final = [operation.path for operation in OPERATIONS if operation.streams]
EVERYTHING: Final = {
    *((operation.method, operation.path) for operation in OPERATIONS if not operation.streams),
    *(("GET", page.path) for page in (*PAGES, METRICS) if page.id != "openapi"),
}
"""All described operations that end, except the description itself, which schemathesis reads."""


async def webhook_name(_request: web.Request) -> web.Response:
    """Return the name of the target that is configured."""
    return web.Response(text="ntfy-1")


def seeds(here: Replica) -> web.Application:
    """Return a function that creates requests, devices and lock-outs for calls to use."""

    async def request_id(_request: web.Request) -> web.Response:
        asked = await here.request(Device.new().asks(name="<waiting>", address="203.0.113.9"))
        return web.Response(text=asked.request_id)

    async def device_id(_request: web.Request) -> web.Response:
        device = Device.new()
        await here.pair(device, "operator.read", "operator.write")
        await here.pair(device, "node.run", role="node")
        return web.Response(text=device.device_id)

    addresses = (ipaddress.IPv4Address("172.16.0.0") + number for number in itertools.count(1))

    async def locked_address(_request: web.Request) -> web.Response:
        address = str(next(addresses))
        for number in range(FAILURES_LIMIT):
            wrong = {name: [str(number)] for name in get_args(Credential)}
            await here.store.lockouts.count(address, wrong)
        return web.Response(text=address)

    operators = itertools.count(1)

    async def operator_name(_request: web.Request) -> web.Response:
        name = f"seed-{next(operators)}"
        await here.operators.create(OPERATOR, name, Permission.VIEW)
        return web.Response(text=name)

    rules = itertools.count(1)

    async def rule(_request: web.Request) -> web.Response:
        return web.json_response(
            {
                "name": f"rule-{next(rules)}",
                "role": "node",
                "networks": ["192.0.2.0/24"],
                "count": 1,
                "expiresAtMs": here.store.now_ms() + LIFE_LIMIT_MS // 2,
            }
        )

    async def rule_name(_request: web.Request) -> web.Response:
        name = f"seed-{next(rules)}"
        made = Rule(
            "", "node", (), here.store.now_ms() + 1_000, 1, 0, "", networks=("192.0.2.0/24",)
        )
        if len(await here.rules.all(OPERATOR)) >= RULES_LIMIT // 2:
            await here.redis.delete(RULES)
        await here.rules.add(OPERATOR, name, here.rules.make(OPERATOR, name, made))
        return web.Response(text=name)

    async def setup_id(_request: web.Request) -> web.Response:
        """Create a setup code, after revoking all others so that the limit is not reached."""
        await here.setup_codes.revoke_all(OPERATOR)
        made = await here.setup_codes.create(
            OPERATOR, profile="node", public_url="wss://gw.example.com"
        )
        return web.Response(text=made.code.setup_id)

    app = web.Application()
    app.router.add_post("/webhookName", webhook_name)
    app.router.add_post("/setupId", setup_id)
    app.router.add_post("/rule", rule)
    app.router.add_post("/ruleName", rule_name)
    app.router.add_post("/operatorName", operator_name)
    app.router.add_post("/lockedAddress", locked_address)
    app.router.add_post("/requestId", request_id)
    app.router.add_post("/deviceId", device_id)
    return app


def each_from_elsewhere(app: web.Application) -> web.Application:
    """Send each call from another address, so that wrong tokens lock nobody out."""
    addresses = (ipaddress.IPv4Address("10.0.0.0") + number for number in itertools.count(1))

    @web.middleware
    async def moved(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        return await handler(request.clone(remote=str(next(addresses))))

    app.middlewares.insert(0, moved)
    return app


@contextlib.asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    """Serve on a free port; returns the address."""
    async with TestServer(app) as server:
        yield str(server.make_url("/")).rstrip("/")


async def schemathesis(url: str, seeds_url: str, seed: int, har: Path) -> tuple[int, str]:
    """Run schemathesis; returns its exit status and output."""
    command: tuple[str | Path, ...] = (
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", HERE / "schemathesis.toml"),
        *("run", f"{url}/openapi.json", "--header", f"Authorization: {BEARER['Authorization']}"),
        *("--seed", str(seed), "--max-examples", str(CASES_PER_OPERATION), "--no-color"),
        *(word for path in ENDLESS for word in ("--exclude-path", path)),
        *("--report", "har", "--report-har-path", har),
    )
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=har.parent,
        env={
            **os.environ,
            "PYTHONPATH": str(HERE.parents[1]),
            "SCHEMATHESIS_HOOKS": "tests.fuzz.seeded",
            "SEEDS_URL": seeds_url,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(RUN_SECONDS):
            body, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, body.decode()


def carried_out(har: Path) -> set[tuple[str, str]]:
    """Return the operations that succeeded according to the recorded answers."""
    recorded: list[dict[str, Any]] = json.loads(har.read_text())["log"]["entries"]
    found = set()
    for entry in recorded:
        if entry["response"]["status"] == 200:
            path = re.sub(r"\?.*", "", re.sub(r"^http://[^/]*", "", entry["request"]["url"]))
            found |= {
                (method, template)
                for method, template in EVERYTHING
                if method == entry["request"]["method"]
                and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path)
            }
    return found


@pytest.mark.timeout(RUN_SECONDS + 30)
async def test_nothing_is_found_and_everything_is_reached(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    seed = int(os.environ.get("FUZZ_SEED") or random.randrange(2**32))
    print(f"repeat with FUZZ_SEED={seed}")
    url, maximum = redis_server.approval_url, "100000"
    async with (
        replica(
            url,
            SystemClock(),
            PENDING_LIMIT=maximum,
            PENDING_LIMIT_PER_ADDRESS=maximum,
            WEBHOOK_TARGETS="ntfy+https://ntfy.example/topic",
        ) as here,
        serving(each_from_elsewhere(here.app)) as api_url,
        serving(seeds(here)) as seeds_url,
    ):
        with capture_logs():
            status, body = await schemathesis(api_url, seeds_url, seed, tmp_path / "recorded.har")
    assert status == 0, body
    assert "No issues found" in body, body
    assert f"{len(EVERYTHING)} selected" in body, body
    assert carried_out(tmp_path / "recorded.har") == EVERYTHING
