"""A stub of the part of OpenClaw's gateway that the relay uses: challenge, pairing, hello-ok, echo.

It trusts the user header, as OpenClaw does in trusted-proxy mode, and records what it receives. Tests
make it send, close and stop reading.

`python -m tools.support.stub_openclaw PORT USER_HEADER` serves one until its input ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from aiohttp import WSMsgType, web

from shared.upstream import CLIENT_USER, RELAY_USER
from tools.support.threaded_server import threaded_server

if TYPE_CHECKING:
    import ssl
    from collections.abc import Coroutine, Iterator

VERSION: Final = "2026.9.6"
METHODS: Final = ["chat.send", "device.pair.list", "node.pair.remove", "sessions.list"]
FRAME_LIMIT_BYTES: Final = 26_214_400


@dataclass(eq=False)
class Session:
    """One WebSocket and the headers of its upgrade."""

    socket: web.WebSocketResponse
    user: str
    headers: dict[str, str]
    connect: dict[str, Any] = field(default_factory=dict)
    frames: list[str] = field(default_factory=list)
    """The frames received after hello-ok."""
    closed: int | None = None
    """The close code of the relay."""
    path: str = ""
    """The path it came by: connection ids begin with it, so that gateways can be told apart."""

    @property
    def params(self) -> dict[str, Any]:
        """The parameters of its `connect`."""
        found: dict[str, Any] = self.connect.get("params", {})
        return found


@dataclass
class StubOpenClaw:
    """Its sessions, and the devices that it has paired."""

    user_header: str
    port: int = 0
    tls: ssl.SSLContext | None = None
    paired: set[str] = field(default_factory=set)
    pending: dict[str, str] = field(default_factory=dict)
    """Device id by request id."""
    limited: set[str] = field(default_factory=set)
    """Devices that get no scopes until a request of theirs is approved."""
    sessions: list[Session] = field(default_factory=list)
    refusal: dict[str, Any] | None = None
    """The error that every client gets instead of hello-ok."""
    clock_ahead_ms: int = 0
    answered: int = 0
    """How many requests were answered that open no WebSocket."""
    silent: bool = False
    """Whether no challenge is sent."""
    reads: threading.Event = field(default_factory=threading.Event)
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    def __post_init__(self) -> None:
        self.reads.set()

    @property
    def url(self) -> str:
        """The address for UPSTREAM_URL."""
        return f"wss://localhost:{self.port}" if self.tls else f"ws://127.0.0.1:{self.port}"

    @property
    def clients(self) -> list[Session]:
        """Sessions of relayed devices, the oldest first."""
        return [session for session in self.sessions if session.user == CLIENT_USER]

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on its event loop and wait for the result."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(20)

    def send(self, session: Session, text: str) -> None:
        """Send a text message."""
        self.run(session.socket.send_str(text))

    def close(self, session: Session, code: int, reason: str = "") -> None:
        """Close a session."""
        self.run(session.socket.close(code=code, message=reason.encode()))

    def cut(self, session: Session) -> None:
        """End a session without a close frame."""

        async def abort() -> None:
            transport = session.socket._req.transport  # type: ignore[union-attr]
            assert transport is not None
            transport.abort()

        self.run(abort())

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Serve one request."""
        if request.headers.get("Upgrade", "").lower() != "websocket":
            self.answered += 1
            return web.json_response({"ok": True, "status": "live"})
        socket = web.WebSocketResponse(max_msg_size=FRAME_LIMIT_BYTES + 1, compress=False)
        await socket.prepare(request)
        user = request.headers.get(self.user_header, "")
        session = Session(socket, user, dict(request.headers), path=request.path.lstrip("/"))
        self.sessions.append(session)
        if not self.silent:
            await socket.send_json(
                {
                    "type": "event",
                    "event": "connect.challenge",
                    "payload": {
                        "nonce": str(uuid.uuid4()),
                        "ts": _now_ms() + self.clock_ahead_ms,
                        "capabilities": ["model-catalog-snapshot"],
                    },
                }
            )
        async for message in socket:
            await asyncio.to_thread(self.reads.wait, 30)
            if message.type is WSMsgType.TEXT:
                await self._on_text(session, message.data)
        session.closed = socket.close_code
        return socket

    async def _on_text(self, session: Session, text: str) -> None:
        if session.connect:
            session.frames.append(text)
            await session.socket.send_str(self._answer(session, text))
            return
        session.connect = json.loads(text)
        error = self.refusal or self._pairing_needed(session)
        if error is not None:
            await session.socket.send_json(_failure(session.connect["id"], error))
            await session.socket.close(code=1008, message=b"refused")
            return
        hello = _hello(session)
        if session.params.get("device", {}).get("id") in self.limited:
            hello["auth"]["scopes"] = []
        await session.socket.send_json(_success(session.connect["id"], hello))

    def _pairing_needed(self, session: Session) -> dict[str, Any] | None:
        if session.user != CLIENT_USER:
            return None
        device = session.params["device"]["id"]
        if device in self.paired:
            return None
        request_id = str(uuid.uuid4())
        self.pending[request_id] = device
        return {
            "code": "NOT_PAIRED",
            "message": "pairing required: device is not approved yet",
            "details": {
                "code": "PAIRING_REQUIRED",
                "reason": "not-paired",
                "requestId": request_id,
                "deviceId": device,
                "requestedRole": session.params.get("role", "operator"),
                "requestedScopes": session.params.get("scopes", []),
            },
        }

    def _answer(self, session: Session, text: str) -> str:
        request = json.loads(text)
        number, method = request["id"], request["method"]
        if session.user == RELAY_USER and method == "device.pair.approve":
            device = self.pending.pop(request["params"]["requestId"], None)
            if device is None:
                error = {"code": "INVALID_REQUEST", "message": "unknown requestId"}
                return json.dumps(_failure(number, error))
            self.paired.add(device)
            self.limited.discard(device)
        elif session.user == RELAY_USER and method == "device.pair.list":
            pending = [
                {
                    "requestId": request_id,
                    "deviceId": device,
                    "role": "operator",
                    "scopes": ["operator.read"],
                }
                for request_id, device in self.pending.items()
            ]
            return json.dumps(_success(number, {"pending": pending, "paired": []}))
        elif session.user == RELAY_USER and method == "device.pair.remove":
            self.paired.discard(request["params"]["deviceId"])
        payload = {"from": "upstream", "method": method, "bytes": len(text)}
        return json.dumps(_success(number, payload))


def _hello(session: Session) -> dict[str, Any]:
    return {
        "type": "hello-ok",
        "protocol": 4,
        "server": {
            "version": VERSION,
            "connId": f"{session.path}:{uuid.uuid4()}",
            "buildId": "of-the-upstream",
        },
        "features": {"methods": METHODS, "events": ["chat", "tick"]},
        "snapshot": {
            "presence": [],
            "health": {},
            "stateVersion": {"presence": 0, "health": 0},
            "uptimeMs": 1,
        },
        "auth": {
            "method": "trusted-proxy",
            "role": session.params.get("role", "operator"),
            "scopes": session.params.get("scopes", []),
            "deviceToken": "the-upstreams-own",
            "deviceTokens": [],
            "recoveryScope": "of-the-upstream",
        },
        "policy": {"maxPayload": 26_214_400, "maxBufferedBytes": 1, "tickIntervalMs": 30_000},
    }


def _success(number: str, payload: dict[str, Any]) -> dict[str, Any]:
    return {"type": "res", "id": number, "ok": True, "payload": payload}


def _failure(number: str, error: dict[str, Any]) -> dict[str, Any]:
    return {"type": "res", "id": number, "ok": False, "error": error}


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@contextmanager
def stub_openclaw(
    user_header: str, port: int = 0, *, tls: ssl.SSLContext | None = None
) -> Iterator[StubOpenClaw]:
    """Serve one in a thread of its own."""
    stub = StubOpenClaw(user_header, tls=tls)
    with threaded_server(stub.serve, port, loop=stub.loop, tls=tls) as stub.port:
        try:
            yield stub
        finally:
            stub.reads.set()


def main(port: str, user_header: str) -> None:
    """Serve until the input ends: nobody is left who could stop it."""
    with stub_openclaw(user_header, int(port)):
        sys.stdin.buffer.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
