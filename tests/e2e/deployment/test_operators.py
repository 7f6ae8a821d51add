"""Named operators with two approvals: created and revoked with the command, at once everywhere."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest

from services.approval.access.csrf import PAGE_HEADER
from services.approval.access.sessions import COOKIE
from tests.e2e.command.terminal import Terminal
from tests.support.http.events import EventReader
from tools.support.actors import SimulatedDevice, wait_for_log

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from tests.conftest import StartStack
    from tools.support.processes.service import ServiceProcess
    from tools.support.processes.stack import Stack

REVOKED_SECONDS: Final = 2.0
"""A stream ends at the event of the revocation or at the next check, 1 s later; with reserve."""


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    return start_stack(
        approvals=2,
        gateways=1,
        approval_env={
            "TRUSTED_PROXIES": "192.0.2.1",
            "OPERATOR_PROXY_USER_HEADER": "X-Forwarded-Email",
            "OPERATOR_PROXY_PERMISSIONS": "user:alice@example.com=manage",
        },
    )


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield session


async def create(stack: Stack, name: str, permission: str) -> dict[str, str]:
    """Create an operator with the command; return the headers with its token."""
    done = await Terminal(stack).run("operators", "create", name, "--permission", permission)
    assert done.code == 0, done
    return {"Authorization": f"Bearer {done.out.strip()}"}


async def status(
    http: aiohttp.ClientSession, approval: ServiceProcess, path: str, headers: Mapping[str, str]
) -> int:
    async with http.get(f"{approval.url}/v1/{path}", headers=headers) as answer:
        return answer.status


async def test_a_revocation_ends_calls_sessions_and_streams_at_every_replica(
    stack: Stack, http: aiohttp.ClientSession
) -> None:
    east, west = stack.approvals
    alice = await create(stack, "alice", "decide")
    request_id = await SimulatedDevice(stack).request_pairing(stack.gateways[0])
    approving = f"{west.url}/v1/requests/{request_id}/approve"
    async with http.post(approving, headers=alice) as answer:
        assert answer.status == 200
    line = (await wait_for_log(west, "operator.call", operation="approveRequest"))[0]
    assert line["operator"] == "alice"
    async with http.post(f"{east.url}/v1/session", headers=alice) as answer:
        session = {"Cookie": f"{COOKIE}={answer.cookies[COOKIE].value}"}
    async with contextlib.AsyncExitStack() as streams:
        readers = []
        for approval, headers in ((east, alice), (west, alice), (east, session), (west, session)):
            response = await streams.enter_async_context(
                http.get(f"{approval.url}/v1/events", headers=headers)
            )
            readers.append(EventReader(response))
            await readers[-1].begun()
        done = await Terminal(stack).run("operators", "revoke", "alice", "--yes")
        revoked_at = time.monotonic()
        assert done.code == 0, done
        for approval in stack.approvals:
            for headers in (alice, session):
                assert await status(http, approval, "requests", headers) == 401
        ended = await asyncio.gather(*(reader.next() for reader in readers))
        assert ended == [None] * 4, "and none shows the revocation or anything after it"
        assert time.monotonic() - revoked_at < REVOKED_SECONDS
    for service in stack.services:
        assert alice["Authorization"][-43:] not in service.log_text()


async def test_an_operator_uses_the_command_within_its_permission(stack: Stack) -> None:
    viewer = await create(stack, "viewer", "view")
    terminal = Terminal(stack)
    terminal.env["APPROVAL_OPERATOR_TOKEN"] = viewer["Authorization"].removeprefix("Bearer ")
    assert (await terminal.run("devices", "list")).code == 0
    refused: Any = await terminal.run("devices", "remove", "0" * 64, "--yes", "--json")
    assert refused.code == 1, refused
    refused = await terminal.run("operators", "list", "--json")
    assert refused.json["error"]["name"] == "not-allowed"


async def test_a_forged_identity_header_is_ignored(
    stack: Stack, http: aiohttp.ClientSession
) -> None:
    """Only a proxy of TRUSTED_PROXIES is believed, whatever address the client claims."""
    forged = {
        "X-Forwarded-Email": "alice@example.com",
        "X-Forwarded-For": "192.0.2.1",
        "X-Real-IP": "192.0.2.1",
        "Origin": stack.approvals[0].url,
        PAGE_HEADER: "1",
    }
    for approval in stack.approvals:
        for path in ("requests", "operators", "session", "events"):
            assert await status(http, approval, path, forged) == 401
        async with http.get(f"{approval.url}/metrics") as answer:
            shown = await answer.text()
        assert 'latchkey_approval_proxy_sign_ins_total{outcome="untrusted"} 4.0' in shown
        assert 'latchkey_approval_proxy_sign_ins_total{outcome="accepted"} 0.0' in shown
