"""An upstream that speaks nonsense: clients are asked to come back, and nothing else happens."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.e2e.test_relay import SECRET, device
from tools.support.people import Operator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import StartStack
    from tools.support.stack import Stack

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CHALLENGE: Final = {
    "type": "event",
    "event": "connect.challenge",
    "payload": {"nonce": "00000000-0000-4000-8000-000000000000", "ts": time.time_ns() // 1_000_000},
}
_OK: Final = {"type": "res", "id": "ID", "ok": True}


def text(content: object) -> bytes:
    """Return a server's text frame."""
    payload = content.encode() if isinstance(content, str) else json.dumps(content).encode()
    size = len(payload)
    return bytes([0x81, size] if size < 126 else [0x81, 126, size >> 8, size & 255]) + payload


UPGRADE: Final = "upgrade"
"""Stands for the right answer to the upgrade."""
CONNECT: Final = "connect"
"""Stands for waiting for the client's `connect`."""
CHALLENGE: Final = text(_CHALLENGE)

Script = tuple[str | bytes, ...]

BEFORE_A_CHALLENGE: Final[dict[str, Script]] = {
    "closes without an answer": (),
    "answers with another protocol": (b"SSH-2.0-OpenSSH_9.2\r\n",),
    "answers 500": (b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",),
    "accepts another key": (
        (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n"
        ),
    ),
    "masks its frames": (UPGRADE, b"\x81\x81\0\0\0\0x"),
    "sets a reserved bit": (UPGRADE, b"\xc1\x01x"),
    "announces a frame beyond the limit": (UPGRADE, b"\x81\x7f\0\0\0\0\x7f\xff\xff\xff"),
    "challenges in broken JSON": (UPGRADE, text('{"event":"connect.challenge"')),
    "challenges without a nonce": (UPGRADE, text({**_CHALLENGE, "payload": {}})),
    "has a clock far behind": (
        UPGRADE,
        text({**_CHALLENGE, "payload": {"nonce": "n", "ts": 1_700_000_000_000}}),
    ),
    "challenges with a list": (UPGRADE, text(["connect.challenge"])),
}
AFTER_CONNECT: Final[dict[str, Script]] = {
    "closes": (UPGRADE, CHALLENGE, CONNECT),
    "answers in broken JSON": (UPGRADE, CHALLENGE, CONNECT, text('{"type":"res"')),
    "answers with a list": (UPGRADE, CHALLENGE, CONNECT, text([])),
    "answers without a payload": (UPGRADE, CHALLENGE, CONNECT, text(_OK)),
    "answers with a number": (UPGRADE, CHALLENGE, CONNECT, text({**_OK, "payload": 5})),
    "answers with no features": (
        *(UPGRADE, CHALLENGE, CONNECT),
        text({**_OK, "payload": {"type": "hello-ok", "auth": {"scopes": []}}}),
    ),
    "refuses without a reason": (UPGRADE, CHALLENGE, CONNECT, text({**_OK, "ok": False})),
    "refuses with a text": (
        *(UPGRADE, CHALLENGE, CONNECT),
        text({**_OK, "ok": False, "error": "no", "payload": None}),
    ),
    "sends a frame in a reserved opcode": (UPGRADE, CHALLENGE, CONNECT, b"\x83\x00"),
}


class ScriptedUpstream:
    """Plays a script to each connection that asks for a WebSocket."""

    def __init__(self) -> None:
        self.script: Script = ()
        self.connects = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection; plain requests get a healthy answer."""
        try:
            await self._serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        keys = [line for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-k")]
        if not keys:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n" + b'{"ok":true}')
            return
        for step in self.script:
            if step == UPGRADE:
                writer.write(_upgraded(keys[0].split(b":", 1)[1].strip()))
            elif step == CONNECT:
                await reader.readexactly(64)
                self.connects += 1
            elif isinstance(step, bytes):
                writer.write(step)
        await writer.drain()
        if self.script and self.script[-1] != CONNECT:
            await reader.read()


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    """One scripted upstream."""
    with _serving() as one:
        yield one


@pytest.fixture(scope="module")
def stack(start_stack: StartStack, upstream: ScriptedUpstream) -> Stack:
    """One gateway before it. Each client's address is what it says it is."""
    return start_stack(
        gateways=1,
        env={"TRUSTED_PROXIES": "127.0.0.0/8"},
        gateway_env={
            "UPSTREAM_URL": f"ws://127.0.0.1:{upstream.port}",
            "UPSTREAM_SECRET": SECRET,
        },
    )


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("name", [*BEFORE_A_CHALLENGE, *AFTER_CONNECT])
async def test_a_client_is_asked_to_come_back_and_stays_paired_when_the_upstream(
    stack: Stack, upstream: ScriptedUpstream, name: str
) -> None:
    upstream.script = ()
    one = device(stack)
    gateway = stack.gateways[0]
    async with Operator(stack, stack.approvals[0]) as operator:
        (await operator.approve(await one.waits(gateway))).ok()
        await one.refused(gateway)  # from now on its address is known
        upstream.script, upstream.connects = (BEFORE_A_CHALLENGE | AFTER_CONNECT)[name], 0
        refused = await one.refused(gateway)
        shown = (await operator.call("GET", f"devices/{one.device_id}")).ok()
    assert refused.code == "UNAVAILABLE"
    assert refused.details["reason"] == "startup-sidecars"
    assert refused.close is not None
    assert refused.close.code == 1013
    assert upstream.connects == (name in AFTER_CONNECT)
    assert shown["deviceId"] == one.device_id


@contextmanager
def _serving() -> Iterator[ScriptedUpstream]:
    one = ScriptedUpstream()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def run(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(20)

    server = run(asyncio.start_server(one.serve, "127.0.0.1", 0))
    one.port = server.sockets[0].getsockname()[1]
    try:
        yield one
    finally:
        loop.call_soon_threadsafe(server.close)
        run(server.wait_closed())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def _upgraded(key: bytes) -> bytes:
    accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
