"""The baseline: a bare aiohttp + uvloop WebSocket server that admits everybody.

It uses the stock accept loop and frames of the gateway's size, without parsing, cryptography or an
approval service. With `verify` it reads the `connect` and checks its Ed25519 signature, as any
gateway has to. `python -m tools.bench.bare PORT [verify]`
"""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING, Final

import msgspec
import uvloop
from aiohttp import WSMsgType, web

from shared.protocol.connect import ConnectParams
from shared.protocol.frames import RequestFrame
from shared.protocol.signing import decode_public_key, signature_holds
from tools.load.client.dialer import raise_descriptor_limit

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

VERIFY: Final = "verify"
_request: Final = msgspec.json.Decoder(RequestFrame).decode
_params: Final = msgspec.json.Decoder(ConnectParams).decode
CHALLENGE = (
    '{"type":"event","event":"connect.challenge",'
    '"payload":{"nonce":"00000000-0000-4000-8000-000000000000","ts":1700000000000}}'
)
HELLO = '{"type":"res","id":"1","ok":true,"payload":{"type":"hello-ok","x":"' + "x" * 772 + '"}}'


def accepting(*, verifies: bool) -> Handler:
    """Return the handler of one socket: send a challenge, read one frame, send hello, close."""

    async def accept(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        await socket.send_str(CHALLENGE)
        message = await socket.receive()
        if message.type is WSMsgType.TEXT and (not verifies or proven(message.data)):
            await socket.send_str(HELLO)
            async for _ in socket:
                pass
        return socket

    return accept


def proven(text: str) -> bool:
    """Return whether a `connect` is signed by the device it names."""
    frame = _request(text)
    params = _params(frame.params)
    device = params.device
    if not device:
        return False
    key = decode_public_key(device.public_key)
    role, scopes = params.role or "operator", list(params.scopes or ())
    return key is not None and signature_holds(params, device, role, scopes, key)


async def serve(port: int, *, verifies: bool) -> None:
    """Serve until cancelled."""
    raise_descriptor_limit()
    app = web.Application()
    app.router.add_get("/", accepting(verifies=verifies))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)  # a load test that ends aborts its last sockets
    uvloop.run(serve(int(sys.argv[1]), verifies=VERIFY in sys.argv[2:]))
