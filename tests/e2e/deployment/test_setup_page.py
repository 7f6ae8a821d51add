"""The redirect from a gateway's address to the operators' page, and what is logged of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
import pytest

from services.approval.access.csrf import PAGE_HEADER
from services.approval.access.sessions import COOKIE
from tools.support.actors import SimulatedDevice, wait_for_log

if TYPE_CHECKING:
    from tests.conftest import StartStack
    from tools.support.processes.stack import Stack


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    """Two approvals, and a gateway that links to the first."""
    stack = start_stack(approvals=2, gateways=0)
    stack.add_gateway(APPROVAL_PUBLIC_URL=stack.approvals[0].url)
    return stack


async def test_a_device_is_approved_in_a_session_from_another_replica(stack: Stack) -> None:
    east, west = stack.approvals
    (gateway,) = stack.gateways
    device = SimulatedDevice(stack)
    request_id = await device.request_pairing(gateway)
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
        async with http.get(f"{gateway.url}/setup?token={stack.admin_token}") as page:
            assert str(page.url) == f"{east.url}/setup"
            assert "Manage Devices" in await page.text()
        bearer = {"Authorization": f"Bearer {stack.admin_token}"}
        async with http.post(f"{east.url}/v1/session", headers=bearer) as answer:
            cookie = answer.cookies[COOKIE].value
        headers = {"Cookie": f"{COOKIE}={cookie}", "Origin": west.url, PAGE_HEADER: "1"}
        path = f"{west.url}/v1/requests/{request_id}/approve"
        async with http.post(path, headers={**headers, "Origin": east.url}) as answer:
            assert answer.status == 403
        async with http.post(path, headers=headers) as answer:
            assert answer.status == 200
        await device.connect_once(gateway)
        async with http.delete(f"{west.url}/v1/session", headers=headers) as answer:
            assert await answer.json() == {"ended": True}
        alone = {"Cookie": headers["Cookie"]}
        async with http.get(f"{east.url}/v1/requests", headers=alone) as answer:
            assert answer.status == 401
    await wait_for_log(east, "operator.call", operation="openSession", status=200)
    await wait_for_log(west, "operator.call", operation="endSession", status=200)
    for service in stack.services:
        for secret in (cookie, cookie.split(".")[2], stack.admin_token):
            assert secret not in service.log_text()
