"""A reverse proxy that serves services under path prefixes of one address."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_HOP: frozenset[str] = frozenset({"connection", "transfer-encoding", "content-encoding"})


@dataclass(frozen=True, slots=True)
class Mount:
    """A service (`to`: its http:// address) below a path such as `/openclaw`."""

    prefix: str
    to: str
    strips: bool = True
    """Whether the proxy strips the prefix."""


@asynccontextmanager
async def mounted(*mounts: Mount) -> AsyncIterator[str]:
    """Serve the mounts; yields the proxy's http:// address. Other paths are 404."""
    async with aiohttp.ClientSession(auto_decompress=False) as session:

        async def serve(request: web.Request) -> web.StreamResponse:
            found = [mount for mount in mounts if request.raw_path.startswith(f"{mount.prefix}/")]
            if not found:
                return web.Response(status=404, text="nothing is mounted here")
            mount = found[0]
            path = request.raw_path
            target = mount.to + (path[len(mount.prefix) :] if mount.strips else path)
            headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP}
            if request.headers.get("Upgrade", "").lower() == "websocket":
                return await _carry(request, session, target)
            async with session.request(
                request.method,
                target,
                headers=headers,
                data=await request.read(),
                allow_redirects=False,
            ) as answer:
                stored = [(k, v) for k, v in answer.headers.items() if k.lower() not in _HOP]
                coding = answer.headers.get("Content-Encoding")
                coded = [("Content-Encoding", coding)] if coding else []
                response = web.Response(status=answer.status, body=await answer.read())
                response.headers.clear()
                response.headers.extend([*stored, *coded])
                return response

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", serve)
        async with TestServer(app) as server:
            yield f"http://127.0.0.1:{server.port}"


async def _carry(
    request: web.Request, session: aiohttp.ClientSession, target: str
) -> web.WebSocketResponse:
    origin = request.headers.get("Origin")
    async with session.ws_connect(target, origin=origin) as service:
        client = web.WebSocketResponse()
        await client.prepare(request)

        async def down() -> None:
            async for message in service:
                await client.send_str(message.data)
            await client.close(code=service.close_code or 1006)

        carrying = asyncio.create_task(down())
        try:
            async for message in client:
                await service.send_str(message.data)
        finally:
            await service.close()
            await carrying
        return client
