"""The yardstick: a bare aiohttp + uvloop WebSocket server that lets everybody in.

Stock accept loop, frames of the size the gateway sends, nothing parsed, no crypto, nobody asked.
`python -m tests.bench.bare PORT`
"""

from __future__ import annotations

import asyncio
import logging
import sys

import uvloop
from aiohttp import WSMsgType, web

CHALLENGE = (
    '{"type":"event","event":"connect.challenge",'
    '"payload":{"nonce":"00000000-0000-4000-8000-000000000000","ts":1700000000000}}'
)
HELLO = '{"type":"res","id":"1","ok":true,"payload":{"type":"hello-ok","x":"' + "x" * 460 + '"}}'


async def accept(request: web.Request) -> web.WebSocketResponse:
    """Send a challenge, take one frame for an answer, say hello, wait for the end."""
    socket = web.WebSocketResponse(compress=False)
    await socket.prepare(request)
    await socket.send_str(CHALLENGE)
    message = await socket.receive()
    if message.type is WSMsgType.TEXT:
        await socket.send_str(HELLO)
        async for _ in socket:
            pass
    return socket


async def serve(port: int) -> None:
    """Serve until cancelled."""
    app = web.Application()
    app.router.add_get("/", accept)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)  # a load that ends cuts its last sockets off
    uvloop.run(serve(int(sys.argv[1])))
