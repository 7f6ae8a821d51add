"""Bearer tokens of browsers, checked before a request goes to the upstream."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from services.approval.domain.lockout import FAILURES_LIMIT
from services.approval.storage.keys import guard_key, wrong_values_key
from shared.device.profile import CLI
from shared.device_tokens import with_device_id
from shared.upstream import CLIENT_USER
from tests.e2e.relay.upstream import (
    CONFIG,
    NAMES,
    ORIGIN,
    WITHOUT_UPSTREAM,
    bearer,
    paired_with_token,
)
from tests.support.http.plain_http import ask
from tools.support.actors import SimulatedDevice

if TYPE_CHECKING:
    from tests.support.stubs.upstream import StubUpstream
    from tools.support.actors import Operator
    from tools.support.processes.service import ServiceProcess
    from tools.support.processes.stack import Stack


pytestmark = pytest.mark.usefixtures("no_lockouts")


async def test_the_gateway_token_grants_only_the_scope_to_read(
    stack: Stack, gateway: ServiceProcess, upstream: StubUpstream
) -> None:
    reply = await ask(gateway.port, CONFIG, headers=bearer(stack.gateway_token))
    assert reply.json["users"] == [CLIENT_USER, CLIENT_USER]
    received = upstream.last(CONFIG)
    assert received.all("X-OpenClaw-Scopes") == ["operator.read"]
    assert received.all(NAMES[0].required) == ["1"]
    assert received.all("Authorization") == []


async def test_a_device_token_grants_the_scopes_of_its_device(
    stack: Stack, gateway: ServiceProcess, upstream: StubUpstream, operator: Operator
) -> None:
    _, token = await paired_with_token(stack, operator)
    reply = await ask(gateway.port, CONFIG, headers=bearer(token))
    assert reply.json["users"] == [CLIENT_USER, CLIENT_USER]
    assert upstream.last(CONFIG).all("X-OpenClaw-Scopes") == ["operator.read"]


@pytest.mark.parametrize(
    "text", ["operator.sessions.x,operator.admin", "operator.sessions.\r\nX: y"]
)
async def test_a_scope_that_would_read_as_several_is_not_sent(
    stack: Stack, gateway: ServiceProcess, upstream: StubUpstream, operator: Operator, text: str
) -> None:
    # `operator.write` covers every scope that begins with `operator.sessions.`.
    device = SimulatedDevice(stack, CLI.with_scopes("operator.write", "operator.pairing"))
    alone = stack.gateways[WITHOUT_UPSTREAM]
    (await operator.approve(await device.request_pairing(alone))).ok()
    device.token = (await device.connect_once(alone)).device_token
    client, _ = await device.stay_connected(alone, with_gateway_token=False)
    rotated = await client.call(
        "device.token.rotate",
        {"deviceId": device.device_id, "role": "operator", "scopes": ["operator.read", text]},
    )
    await client.close()
    token = with_device_id(rotated.payload["token"], device.device_id)
    assert (await ask(gateway.port, CONFIG, headers=bearer(token))).status == 200
    assert upstream.last(CONFIG).all("X-OpenClaw-Scopes") == ["operator.read"]


async def test_a_device_token_is_refused_everywhere_once_the_device_is_removed(
    stack: Stack, operator: Operator
) -> None:
    device, token = await paired_with_token(stack, operator)
    for gateway in stack.gateways[:2]:
        assert (await ask(gateway.port, CONFIG, headers=bearer(token))).status == 200
    (await operator.remove(device.device_id)).ok()
    for gateway in stack.gateways[:2]:
        assert (await ask(gateway.port, CONFIG, headers=bearer(token))).status == 401


async def test_a_device_token_is_refused_for_another_device(
    stack: Stack, gateway: ServiceProcess, operator: Operator
) -> None:
    device, _ = await paired_with_token(stack, operator)
    other, _ = await paired_with_token(stack, operator)
    stolen = with_device_id(device.token, other.device_id)
    assert (await ask(gateway.port, CONFIG, headers=bearer(stolen))).status == 401


async def test_a_token_gives_no_identity_where_none_is_needed(
    stack: Stack, gateway: ServiceProcess
) -> None:
    reply = await ask(gateway.port, "/api/admin", headers=bearer(stack.gateway_token))
    assert reply.json["users"] == []


async def test_a_token_without_a_device_id_is_refused_and_not_counted_as_a_guess(
    stack: Stack, gateway: ServiceProcess, operator: Operator
) -> None:
    for _ in range(FAILURES_LIMIT + 1):
        text = secrets.token_urlsafe(32)
        assert (await ask(gateway.port, CONFIG, headers=bearer(text))).status == 401
    right = await ask(gateway.port, CONFIG, headers=bearer(stack.gateway_token))
    assert right.status == 200
    device, _ = await paired_with_token(stack, operator)
    reply = await ask(gateway.port, CONFIG, headers=bearer(device.token))
    assert reply.status == 401


@pytest.mark.parametrize("kind", ["gateway token", "device token"])
async def test_wrong_tokens_lock_out_and_the_right_one_is_then_refused_alike(
    stack: Stack, operator: Operator, kind: str
) -> None:
    device, token = await paired_with_token(stack, operator)

    def wrong() -> str:
        if kind == "gateway token":
            return secrets.token_hex(32)
        return with_device_id(secrets.token_urlsafe(32), device.device_id)

    right = stack.gateway_token if kind == "gateway token" else token
    gateways = stack.gateways[:2]
    statuses = [
        (await ask(gateways[at % 2].port, CONFIG, headers=bearer(wrong()))).status
        for at in range(FAILURES_LIMIT)
    ]
    assert statuses == [401] * FAILURES_LIMIT
    for gateway in gateways:
        replies = [
            await ask(gateway.port, CONFIG, headers=bearer(item)) for item in (right, wrong())
        ]
        assert [reply.status for reply in replies] == [429, 429]
        assert replies[0].body == replies[1].body
        assert 0 < int(replies[0].headers["retry-after"]) <= 300
    stack.redis.call("DEL", guard_key("127.0.0.1"), wrong_values_key("127.0.0.1"))


async def test_a_token_from_a_page_of_another_origin_is_refused(
    stack: Stack, gateway: ServiceProcess, upstream: StubUpstream
) -> None:
    foreign = bearer(stack.gateway_token, Origin="https://evil.example", Via="x")
    assert (await ask(gateway.port, CONFIG, headers=foreign)).status == 403
    own = bearer(stack.gateway_token, Origin=ORIGIN)
    assert (await ask(gateway.port, CONFIG, headers=own)).status == 200
    assert upstream.last(CONFIG).all("Origin") == [ORIGIN]


async def test_without_approval_a_token_is_unavailable_and_not_wrong(
    stack: Stack, gateway: ServiceProcess, operator: Operator
) -> None:
    _, token = await paired_with_token(stack, operator)
    stack.approvals[0].pause()
    try:
        for item in (token, stack.gateway_token):
            reply = await ask(gateway.port, CONFIG, headers=bearer(item))
            assert reply.status == 503
            assert reply.json["error"]["type"] == "unavailable"
        assert (await ask(gateway.port, "/chat")).status == 200
    finally:
        stack.approvals[0].resume()
    for service in stack.services:
        await service.until_ready()
