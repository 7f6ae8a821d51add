"""A scripted gateway for the client's own tests."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

NONCE = "619d49e9-6fc6-48c8-8273-91ccbf4f7259"
NOW_MS = 1_795_328_509_349


class Socket:
    """The gateway's end of one connection."""

    def __init__(self, socket: web.WebSocketResponse, request: web.Request) -> None:
        self.raw = socket
        self.headers = request.headers

    async def challenge(self) -> None:
        await self.say(
            {
                "type": "event",
                "event": "connect.challenge",
                "payload": {"nonce": NONCE, "ts": NOW_MS},
            }
        )

    async def say(self, frame: Any) -> None:
        await self.raw.send_str(frame if isinstance(frame, str) else json.dumps(frame))

    async def hear(self) -> dict[str, Any]:
        """Return the next frame, which must be text."""
        message = await self.raw.receive()
        assert message.type is WSMsgType.TEXT, message
        frame: dict[str, Any] = json.loads(message.data)
        return frame

    async def hear_anything(self) -> Any:
        return await self.raw.receive()

    async def succeed(self, frame: dict[str, Any], payload: Any) -> None:
        await self.say({"type": "res", "id": frame["id"], "ok": True, "payload": payload})

    async def fail(self, frame: dict[str, Any], error: dict[str, Any]) -> None:
        await self.say({"type": "res", "id": frame["id"], "ok": False, "error": error})

    async def close(self, code: int, reason: str = "") -> None:
        await self.raw.close(code=code, message=reason.encode())

    async def admit(self, **auth: Any) -> dict[str, Any]:
        """Send a challenge, receive connect, send hello-ok; returns the connect frame."""
        await self.challenge()
        frame = await self.hear()
        await self.succeed(frame, hello(frame["params"], **auth))
        return frame


def hello(params: dict[str, Any], **auth: Any) -> dict[str, Any]:
    """Make the hello-ok payload for these params."""
    return {
        "type": "hello-ok",
        "protocol": params["maxProtocol"],
        "server": {"version": "0", "connId": "boot:7"},
        "features": {"methods": [], "events": []},
        "snapshot": {},
        "auth": {
            "method": "token",
            "role": params.get("role", "operator"),
            "scopes": params.get("scopes", []),
            **auth,
        },
        "policy": {"maxPayload": 1, "maxBufferedBytes": 1, "tickIntervalMs": 30_000},
    }


@asynccontextmanager
async def stub_gateway(script: Callable[[Socket], Awaitable[object]]) -> AsyncIterator[str]:
    """Run this script for every socket; yields the address. Its exceptions fail the test."""
    problems: list[BaseException] = []

    async def serve(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(timeout=1)
        socket.set_cookie("sticky", "replica-1")
        await socket.prepare(request)
        try:
            await script(Socket(socket, request))
        except Exception as error:  # noqa: BLE001 (handed to the test)
            problems.append(error)
        return socket

    app = web.Application()
    app.router.add_get("/{path:.*}", serve)
    async with TestServer(app) as server:
        yield f"ws://127.0.0.1:{server.port}"
    for problem in problems:
        raise problem
