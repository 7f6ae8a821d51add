"""The doctor against WebSocket servers that misbehave: each cause is produced for real."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from services.cli.doctor import causes
from tests.support.stubs.gateway import NOW_MS, Socket, hello, stub_gateway
from tools.support.walking import HASTY, findings_of, stopped_by, warned_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.cli.doctor.cause import Cause

TOKEN = {"OPENCLAW_GATEWAY_TOKEN": "gateway-token-of-32-characters-00"}


def on_time() -> float:
    """Return the clock used for the stub's challenges."""
    return NOW_MS / 1000


async def judge(socket: Socket, refusal: dict[str, Any], code: int = 1008) -> None:
    """Send a challenge; admit pages, and refuse clients with a secret or a device like this."""
    await socket.challenge()
    message = await socket.hear_anything()
    if not isinstance(message.data, str):
        return
    frame = json.loads(message.data)
    if {"auth", "device"} & set(frame["params"]):
        await socket.fail(frame, refusal)
        await socket.close(code)
    else:
        await socket.fail(frame, error("CONTROL_UI_DEVICE_IDENTITY_REQUIRED"))
        await socket.close(1008)


def error(code: str, **more: Any) -> dict[str, Any]:
    """Make an error with this detail code."""
    return {"code": "INVALID_REQUEST", "message": "no", "details": {"code": code}, **more}


def unavailable(reason: str, dependency: str) -> dict[str, Any]:
    """Make the error for an unavailable approval."""
    details = {"code": "UNAVAILABLE", "reason": reason, "dependency": dependency}
    return {"code": "UNAVAILABLE", "message": "later", "details": details, "retryable": True}


class TestChallenge:
    async def test_a_missing_challenge_is_found(self) -> None:
        async with stub_gateway(Socket.hear_anything) as url:
            await stopped_by(url, causes.NO_CHALLENGE, timeouts=HASTY)

    @pytest.mark.parametrize("frame", ["hello", '{"type":"event","event":"tick"}'])
    async def test_another_frame_than_a_challenge_is_found(self, frame: str) -> None:
        async def script(socket: Socket) -> None:
            await socket.say(frame)
            await socket.hear_anything()

        async with stub_gateway(script) as url:
            await stopped_by(url, causes.NOT_A_GATEWAY)

    async def test_a_connection_that_is_cut_is_found(self) -> None:
        async def script(socket: Socket) -> None:
            writer = socket.raw._writer
            assert writer is not None
            writer.transport.abort()

        async with stub_gateway(script) as url:
            await stopped_by(url, causes.CUT)

    async def test_clocks_that_differ_are_found(self) -> None:
        async def script(socket: Socket) -> None:
            await judge(socket, error("AUTH_TOKEN_MISMATCH"))

        async with stub_gateway(script) as url:
            late = on_time() + 600
            found = await warned_of(url, causes.CLOCK_DIFFERS, env=TOKEN, now=lambda: late)
            assert "600.0 s behind" in found.found

    async def test_clocks_that_agree_are_fine(self) -> None:
        async def script(socket: Socket) -> None:
            await judge(socket, error("AUTH_TOKEN_MISMATCH"))

        async with stub_gateway(script) as url:
            findings = await findings_of(url, env=TOKEN, now=on_time)
            assert causes.CLOCK_DIFFERS not in {finding.cause for finding in findings}


class TestPing:
    async def test_a_connect_without_a_response_is_found(self) -> None:
        @asynccontextmanager
        async def deaf() -> AsyncIterator[str]:
            async def serve(request: web.Request) -> web.WebSocketResponse:
                socket = web.WebSocketResponse(autoping=False, timeout=1)
                await socket.prepare(request)
                await Socket(socket, request).challenge()
                async for _ in socket:
                    pass
                return socket

            app = web.Application()
            app.router.add_get("/{path:.*}", serve)
            async with TestServer(app) as server:
                yield f"ws://127.0.0.1:{server.port}"

        async with deaf() as url:
            found = await stopped_by(url, causes.PINGS_SWALLOWED, timeouts=HASTY)
            assert found.step == "ping"


class TestRefusals:
    """Refusals of an older, an overloaded or an original gateway."""

    @pytest.mark.parametrize(
        ("refusal", "cause"),
        [
            (error("PROTOCOL_MISMATCH"), causes.PROTOCOL_MISMATCH),
            (error("CONTROL_UI_DEVICE_IDENTITY_REQUIRED"), causes.INSECURE_PAGE),
            (error("DEVICE_AUTH_DEVICE_ID_MISMATCH"), causes.PROOF_REFUSED),
            (error("DEVICE_AUTH_SIGNATURE_EXPIRED"), causes.SIGNATURE_STALE),
            (unavailable("pending-limit", "approval"), causes.PENDING_FULL),
            (unavailable("timeout", "approval"), causes.NO_ANSWER),
            (unavailable("no-responder", "approval"), causes.APPROVAL_AWAY),
            (unavailable("redis", "redis"), causes.REDIS_AWAY),
        ],
        ids=lambda value: getattr(value, "id", ""),
    )
    async def test_each_error_is_named(self, refusal: dict[str, Any], cause: Cause) -> None:
        async def script(socket: Socket) -> None:
            await judge(socket, refusal)

        async with stub_gateway(script) as url:
            await stopped_by(url, cause, env=TOKEN)

    async def test_an_old_gateway_refuses_everybody_by_version(self) -> None:
        async def script(socket: Socket) -> None:
            await socket.challenge()
            message = await socket.hear_anything()
            if isinstance(message.data, str):
                await socket.fail(json.loads(message.data), error("PROTOCOL_MISMATCH"))
                await socket.close(1002, "protocol mismatch")

        async with stub_gateway(script) as url:
            await stopped_by(url, causes.PROTOCOL_MISMATCH, env=TOKEN)

    async def test_a_replica_that_leaves_is_found(self) -> None:
        async def script(socket: Socket) -> None:
            await socket.close(1012, "service restart")

        async with stub_gateway(script) as url:
            found = await stopped_by(url, causes.NOT_READY)
            assert "1012" in found.found

    async def test_a_gateway_that_admits_everybody_is_checked_to_the_end(self) -> None:
        async def script(socket: Socket) -> None:
            await socket.challenge()
            message = await socket.hear_anything()
            if isinstance(message.data, str):
                frame = json.loads(message.data)
                await socket.succeed(frame, hello(frame["params"]))
                await socket.hear_anything()

        async with stub_gateway(script) as url:
            findings = await findings_of(url, env=TOKEN, now=on_time)
        assert {"device", "replicas", "health", "approval"} <= {
            finding.step for finding in findings
        }
        assert all(finding.cause is None for finding in findings)
