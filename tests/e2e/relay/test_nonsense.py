"""An upstream that sends nonsense: clients are asked to retry, and nothing else happens."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.e2e.relay.devices import new_device
from tests.e2e.relay.upstream import SECRET
from tests.support.websocket.server_frames import accepting, server_frame
from tools.support.actors import Operator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import StartStack
    from tools.support.processes.stack import Stack

_CHALLENGE: Final[dict[str, Any]] = {
    "type": "event",
    "event": "connect.challenge",
    "payload": {"nonce": "00000000-0000-4000-8000-000000000000", "ts": 0},
}
_OK: Final = {"type": "res", "id": "ID", "ok": True}


def text(content: object) -> bytes:
    """Return a server's text frame."""
    payload = content.encode() if isinstance(content, str) else json.dumps(content).encode()
    return server_frame(0x1, payload)


def challenge() -> dict[str, Any]:
    """Return a valid challenge of this moment."""
    nonce, now_ms = _CHALLENGE["payload"]["nonce"], time.time_ns() // 1_000_000
    return {**_CHALLENGE, "payload": {"nonce": nonce, "ts": now_ms}}


UPGRADE: Final = "upgrade"
"""Sends the correct response to the upgrade."""
CONNECT: Final = "connect"
"""Waits for the client's `connect`."""
CHALLENGE: Final = "challenge"
"""Sends a valid challenge, with the time at which it is sent."""

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
        if b"sec-websocket-key:" not in head.lower():
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n" + b'{"ok":true}')
            return
        for step in self.script:
            if step == UPGRADE:
                writer.write(accepting(head))
            elif step == CHALLENGE:
                writer.write(text(challenge()))
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
    with _serving() as server:
        yield server


@pytest.fixture(scope="module")
def stack(start_stack: StartStack, upstream: ScriptedUpstream) -> Stack:
    """One gateway with this upstream, which trusts the client address in X-Forwarded-For."""
    return start_stack(
        gateways=1,
        env={"TRUSTED_PROXIES": "127.0.0.0/8"},
        gateway_env={
            "UPSTREAM_URL": f"ws://127.0.0.1:{upstream.port}",
            "UPSTREAM_SECRET": SECRET,
        },
    )


@pytest.mark.usefixtures("check_health")
@pytest.mark.parametrize("name", [*BEFORE_A_CHALLENGE, *AFTER_CONNECT])
async def test_a_client_is_asked_to_retry_and_stays_paired_when_the_upstream(
    stack: Stack, upstream: ScriptedUpstream, name: str
) -> None:
    upstream.script = ()
    device = new_device(stack)
    gateway = stack.gateways[0]
    async with Operator(stack, stack.approvals[0]) as operator:
        (await operator.approve(await device.request_pairing(gateway))).ok()
        await device.expect_refusal(gateway)  # this makes its address known
        upstream.script, upstream.connects = (BEFORE_A_CHALLENGE | AFTER_CONNECT)[name], 0
        refused = await device.expect_refusal(gateway)
        shown = (await operator.call("GET", f"devices/{device.device_id}")).ok()
    assert refused.code == "UNAVAILABLE"
    assert refused.details["reason"] == "startup-sidecars"
    assert refused.close is not None
    assert refused.close.code == 1013
    assert upstream.connects == (name in AFTER_CONNECT)
    assert shown["deviceId"] == device.device_id


@contextmanager
def _serving() -> Iterator[ScriptedUpstream]:
    stub = ScriptedUpstream()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def run(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(20)

    server = run(asyncio.start_server(stub.serve, "127.0.0.1", 0))
    stub.port = server.sockets[0].getsockname()[1]
    try:
        yield stub
    finally:
        loop.call_soon_threadsafe(server.close)
        run(server.wait_closed())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
