"""A proxy in front of a gateway that imitates faults of real proxies."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

_FRAMES: Final = frozenset({aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY})


@dataclass(kw_only=True)
class Faults:
    """The faults of a proxy.

    `down` and `up` change the text from and to the gateway. After `dead_after` upgrades, every
    second one gets a bad gateway error.
    """

    drops_upgrade: bool = False
    eats_pings: bool = False
    dead_after: int | None = None
    headers: Mapping[str, str] | None = None
    down: Callable[[str], str] = str
    up: Callable[[str], str] = str


@asynccontextmanager
async def proxy(to: str, faults: Faults) -> AsyncIterator[str]:
    """Run a proxy to an http:// address; yields its ws:// address."""
    upgrades = 0
    async with aiohttp.ClientSession() as session:

        async def serve(request: web.Request) -> web.StreamResponse:
            nonlocal upgrades
            headers = dict(faults.headers or {})
            wants_upgrade = request.headers.get("Upgrade", "").lower() == "websocket"
            if not wants_upgrade or faults.drops_upgrade:
                async with session.get(to + request.path_qs, headers=headers) as answer:
                    body = await answer.read()
                    return web.Response(
                        status=answer.status, body=body, content_type=answer.content_type
                    )
            upgrades += 1
            if faults.dead_after is not None and upgrades > faults.dead_after and upgrades % 2:
                return web.Response(status=502, text="Bad Gateway")
            if origin := request.headers.get("Origin"):
                headers["Origin"] = origin
            async with session.ws_connect(to, headers=headers) as gateway:
                client = web.WebSocketResponse(autoping=not faults.eats_pings)
                await client.prepare(request)
                await _carry(client, gateway, faults)
                return client

        app = web.Application()
        app.router.add_get("/{path:.*}", serve)
        async with TestServer(app) as server:
            yield f"ws://127.0.0.1:{server.port}"


async def _carry(
    client: web.WebSocketResponse, gateway: aiohttp.ClientWebSocketResponse, faults: Faults
) -> None:
    async def down() -> None:
        async for message in gateway:
            if message.type in _FRAMES:
                await client.send_str(faults.down(message.data))
        await client.close(code=gateway.close_code or 1006)

    carrying = asyncio.create_task(down())
    try:
        async for message in client:
            if message.type in _FRAMES:
                await gateway.send_str(faults.up(message.data))
    finally:
        await gateway.close()
        await carrying
