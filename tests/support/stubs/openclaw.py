"""Replays recordings of real OpenClaw gateways (`python -m tools.interop.doctor.record`).

It decides only what the doctor's tests need: which recorded answer fits a request.
"""

from __future__ import annotations

import json
import time
import uuid
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

DATA: Final = Path(__file__).parents[2] / "data" / "openclaw"
RELEASES: Final = ("2026.3.28", "2026.9.6")
TOKEN: Final = "gateway-token-of-32-characters-00"

Recorded = dict[str, Any]


@dataclass
class Replica:
    """One process with its own device list; several of them share one address.

    `always`: the recorded answer to every client once the origin was checked. `untrusted`: the
    gateway refuses connections through the proxy.
    """

    release: str
    always: str | None = None
    untrusted: bool = False
    ready: bool = True
    hides_pages: bool = False
    """Whether the proxy forwards only upgrades."""
    upgrades: str = "pages"
    """The answer to upgrades: `pages` accepts them, otherwise a name in the recording."""
    token: str = TOKEN
    uptime_ms: int = 60_000
    """Its uptime when this object was created."""
    made_at: float = field(default_factory=time.monotonic)
    boot_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    paired: set[str] = field(default_factory=set)
    requests: dict[str, str] = field(default_factory=dict)
    """Request ids by device id."""
    connects: list[Recorded] = field(default_factory=list)
    """The params of every connect."""

    def __post_init__(self) -> None:
        self.recorded: Recorded = json.loads((DATA / f"{self.release}.json").read_text())

    def page(self, path: str) -> web.Response:
        """Answer a GET."""
        if self.hides_pages:
            return web.Response(status=404)
        which = "pages of an untrusted proxy" if self.untrusted else "pages"
        pages = self.recorded[which]
        if path == "/readyz" and not self.ready:
            return web.Response(status=503, text='{"ready":false}')
        return _page(pages.get(path, pages["/"]))

    def upgrade_refused(self) -> web.Response | None:
        """Answer an upgrade with a refusal."""
        if self.untrusted or self.upgrades == "untrusted":
            return _page(self.recorded["pages of an untrusted proxy"]["/"])
        return _page(self.recorded[self.upgrades]) if self.upgrades != "pages" else None

    def answer(self, params: Recorded, origin: str | None, host: str) -> Recorded:
        """Return the recorded answer to a connect."""
        self.connects.append(params)
        if origin is not None and origin != f"http://{host}":
            return self._said("foreign-origin")
        if params["client"]["id"] == "openclaw-control-ui":
            return self._said("page")
        refused = self.always or self._refused(params.get("auth") or {}, params.get("device"))
        if refused is not None:
            return self._said(refused)
        device_id = (params.get("device") or {}).get("id")
        if device_id is None or device_id in self.paired:
            return self._hello(params)
        return self._request(device_id)

    def _refused(self, auth: Recorded, device: Recorded | None) -> str | None:
        """Return why the secrets are refused: the name of the recording."""
        if not auth:
            return "token-missing" if device else "device-required"
        if device and "deviceToken" in auth:
            return None if device["id"] in self.paired else "device-token-wrong"
        return None if auth.get("token") == self.token else "token-wrong"

    def reject(self, request_id: str) -> bool:
        """Drop a request; returns whether there was one."""
        devices = [device for device, item in self.requests.items() if item == request_id]
        for device in devices:
            del self.requests[device]
        return bool(devices)

    def _said(self, name: str) -> Recorded:
        body: Recorded = deepcopy(self.recorded["connects"][name])
        return body

    def _request(self, device_id: str) -> Recorded:
        message = self._said("pairing-required")
        request_id = self.requests.setdefault(device_id, str(uuid.uuid4()))
        details = message["error"]["details"]
        text = json.dumps(message).replace(details["requestId"], request_id)
        if "deviceId" in details:
            text = text.replace(details["deviceId"], device_id)
        changed: Recorded = json.loads(text)
        return changed

    def _hello(self, params: Recorded) -> Recorded:
        text = self._said("hello")
        payload = text["payload"]
        if "bootId" in payload["server"]:
            payload["server"]["bootId"] = self.boot_id
        ran = time.monotonic() - self.made_at
        payload["snapshot"]["uptimeMs"] = self.uptime_ms + round(ran * 1000)
        local_cli = params["client"]["id"] == "cli" and "bootId" in payload["server"]
        if local_cli or "device" in params:
            payload["auth"] = {**payload["auth"], "scopes": params.get("scopes", [])}
        return text


def _page(page: Recorded) -> web.Response:
    headers = {"Content-Type": page["type"]}
    return web.Response(status=page["status"], text=page["body"], headers=headers)


@asynccontextmanager
async def openclaw(*replicas: Replica) -> AsyncIterator[str]:
    """Serve the replicas behind one address, in turn; yields the ws:// address."""
    turn = 0

    async def serve(request: web.Request) -> web.StreamResponse:
        nonlocal turn
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return replicas[0].page(request.path)
        replica = replicas[turn % len(replicas)]
        turn += 1
        if (refused := replica.upgrade_refused()) is not None:
            return refused
        socket = web.WebSocketResponse(timeout=1)
        await socket.prepare(request)
        challenge = deepcopy(replica.recorded["challenge"])
        challenge["payload"]["ts"] = round(time.time() * 1000)
        await socket.send_json(challenge)
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                break
            await _respond(socket, replica, json.loads(message.data), request)
        return socket

    app = web.Application()
    app.router.add_get("/{path:.*}", serve)
    async with TestServer(app) as server:
        yield f"ws://127.0.0.1:{server.port}"


async def _respond(
    socket: web.WebSocketResponse, replica: Replica, frame: Recorded, request: web.Request
) -> None:
    head = {"type": "res", "id": frame["id"]}
    if frame["method"] == "device.pair.reject":
        known = replica.reject(frame["params"]["requestId"])
        error = {"code": "INVALID_REQUEST", "message": "unknown requestId"}
        await socket.send_json({**head, "ok": known, **({} if known else {"error": error})})
        return
    text = replica.answer(frame["params"], request.headers.get("Origin"), request.host)
    if "payload" in text:
        await socket.send_json({**head, "ok": True, "payload": text["payload"]})
        return
    await socket.send_json({**head, "ok": False, "error": text["error"]})
    code, reason = text["close"]
    await socket.close(code=code, message=reason.encode())
