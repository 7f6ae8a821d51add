"""Records responses of real OpenClaw gateways for the doctor's tests, which run without npm.

`python -m tools.interop.doctor.record` starts each installed release on loopback, with its own
settings, and writes tests/data/openclaw/RELEASE.json. Paths, addresses and anything that identifies
the installation are replaced; lists that no test reads are left out.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import aiohttp

from shared.device.client import DeviceClient
from shared.device.errors import DeviceClientError
from shared.device.handshake import Admitted, Credentials
from shared.device.identity import DeviceKey
from shared.device.profile import CONTROL_UI, Profile
from tools.interop.cli.program import package, version_of
from tools.interop.doctor.gateway import TOKEN, RealGateway, real_gateway
from tools.interop.driver import HERE

Recorded = dict[str, Any]

DATA: Final = HERE.parent / "data" / "openclaw"
PROBE: Final = Profile(client_id="openclaw-probe", mode="probe", version="1", min_protocol=3)
PAGES: Final = ("/readyz", "/healthz", "/")
PAGE_CHARACTERS: Final = 600
FORWARDED: Final = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}
PASSWORD_AUTH: Final = {"mode": "password", "password": "p" * 32}
LIMITED_AUTH: Final = {
    "mode": "token",
    "token": TOKEN,
    "rateLimit": {"maxAttempts": 1, "exemptLoopback": False},
}
_LOOPBACK: Final[dict[int, Recorded]] = {3: {}, 4: {"allowLoopback": True}}
STARTING_SECONDS: Final = 60.0
SOCKETS: Final = 64
UPGRADE: Final = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "bGF0Y2hrZXkgZG9jdG9yIQ==",
}
_RIGHT: Final = Credentials(token=TOKEN)
_WRONG: Final = Credentials(token="w" * 32)


async def main() -> None:
    """Record every installed release."""
    DATA.mkdir(exist_ok=True)
    for protocol in (3, 4):
        release = version_of(package(protocol))
        with tempfile.TemporaryDirectory(prefix="latchkey-record-") as directory:
            recorded = await _release(protocol, Path(directory))
        text = json.dumps({"release": release, **recorded}, indent=1, ensure_ascii=False)
        (DATA / f"{release}.json").write_text(text + "\n")


async def _release(protocol: int, directory: Path) -> Recorded:
    connects: Recorded = {}
    async with real_gateway(protocol, directory / "starting", wait=False) as gateway:
        connects["starting"] = await _while_starting(gateway)
    async with real_gateway(protocol, directory / "token") as gateway:
        pages = await _pages(gateway, {})
        forwarded = await _pages(gateway, FORWARDED)
        challenge = await _challenge(gateway)
        connects |= await _connects(gateway)
    async with real_gateway(protocol, directory / "pass", {"auth": PASSWORD_AUTH}) as gateway:
        connects["password-wrong"] = await _response(gateway, PROBE, credentials=_RIGHT)
        connects["password-missing"] = await _response(gateway, PROBE, key=DeviceKey.generate())
    async with real_gateway(protocol, directory / "limited", {"auth": LIMITED_AUTH}) as gateway:
        await _response(gateway, PROBE, credentials=_WRONG)
        connects["locked-out"] = await _response(gateway, PROBE, credentials=_WRONG)
    by_proxy = {"userHeader": "x-user", **_LOOPBACK[protocol]}
    auth = {"mode": "trusted-proxy", "trustedProxy": by_proxy}
    settings = {"auth": auth, "trustedProxies": ["127.0.0.1"]}
    async with real_gateway(protocol, directory / "proxy", settings) as gateway:
        connects["login-by-proxy"] = await _response(
            gateway, PROBE, credentials=_RIGHT, headers=FORWARDED
        )
    async with real_gateway(protocol, directory / "full") as gateway:
        full = await _when_full(gateway)
    recorded = {
        "pages": pages,
        "too many sockets": full,
        "pages of an untrusted proxy": forwarded,
        "challenge": challenge,
        "connects": connects,
    }
    clean: Recorded = json.loads(json.dumps(recorded).replace(str(directory), "/data"))
    return clean


async def _connects(gateway: RealGateway) -> Recorded:
    page = replace(CONTROL_UI, min_protocol=3)
    key = DeviceKey.generate()
    own, foreign = gateway.http_url, "https://panel.example"
    bogus = Credentials(device_token="d" * 43)
    return {
        "page": await _response(gateway, page, origin=own),
        "foreign-origin": await _response(gateway, page, origin=foreign),
        "device-required": await _response(gateway, PROBE),
        "token-wrong": await _response(gateway, PROBE, credentials=_WRONG),
        "token-missing": await _response(gateway, PROBE, key=key),
        "device-token-wrong": await _response(
            gateway, PROBE, key=key, credentials=bogus, origin=own
        ),
        "pairing-required": await _response(
            gateway, PROBE, key=key, credentials=_RIGHT, origin=own
        ),
        "protocol-mismatch": await _response(
            gateway, replace(PROBE, min_protocol=1, max_protocol=2), credentials=_RIGHT
        ),
        "hello": await _with_health(gateway),
        "scope-upgrade": await _upgrade(gateway, own),
    }


async def _with_health(gateway: RealGateway) -> Recorded:
    """Connect until hello-ok reports the gateway's health, some seconds after a start."""
    async with asyncio.timeout(STARTING_SECONDS):
        while True:
            text = await _response(gateway, PROBE, credentials=_RIGHT)
            if text["payload"]["snapshot"]["health"]["sessions"]:
                return text
            await asyncio.sleep(0.5)


async def _upgrade(gateway: RealGateway, origin: str) -> Recorded:
    """Pair a device with few scopes, and let it request more."""
    key = DeviceKey.generate()
    few, more = (
        PROBE.with_scopes("operator.read"),
        PROBE.with_scopes("operator.read", "operator.admin"),
    )
    asked = await _response(gateway, few, key=key, credentials=_RIGHT, origin=origin)
    await gateway.command("devices", "approve", asked["error"]["details"]["requestId"])
    return await _response(gateway, more, key=key, credentials=_RIGHT, origin=origin)


async def _while_starting(gateway: RealGateway) -> Recorded | None:
    """Connect repeatedly during the start; None if it admits clients as soon as it listens."""
    async with asyncio.timeout(STARTING_SECONDS):
        while True:
            try:
                text = await _response(gateway, PROBE, credentials=_RIGHT)
            except DeviceClientError:
                await asyncio.sleep(0.02)
                continue
            return text if "error" in text else None


async def _response(
    gateway: RealGateway, profile: Profile, key: DeviceKey | None = None, **options: Any
) -> Recorded:
    """Connect and return the response: `payload` or `error`, and the close."""
    async with DeviceClient(gateway.ws_url, key, profile, **options) as device:
        outcome = await device.connect()
    if isinstance(outcome, Admitted):
        return {"payload": _without_long_lists(dict(outcome.hello))}
    return {"error": outcome.error, "close": list(outcome.close or ())}


def _without_long_lists(hello: Recorded) -> Recorded:
    """Remove what identifies this machine and installation, and what no test reads."""
    snapshot = dict(hello["snapshot"])
    snapshot["presence"] = []
    snapshot["health"] = {"sessions": snapshot["health"].get("sessions", {})}
    snapshot.pop("appliedConfigHash", None)
    auth = dict(hello.get("auth") or {})
    auth.pop("recoveryScope", None)
    stored = {name: value for name, value in hello.items() if name != "pluginSurfaceUrls"}
    return {**stored, "features": {"methods": [], "events": []}, "snapshot": snapshot, "auth": auth}


async def _pages(gateway: RealGateway, headers: dict[str, str]) -> Recorded:
    pages = {}
    async with aiohttp.ClientSession(headers=headers) as http:
        for path in PAGES:
            async with http.get(gateway.http_url + path) as answer:
                body = (await answer.text())[:PAGE_CHARACTERS]
                pages[path] = {
                    "status": answer.status,
                    "type": answer.headers["Content-Type"],
                    "body": body,
                }
    return pages


async def _when_full(gateway: RealGateway) -> Recorded | None:
    """Open silent sockets until one is refused; None if none is."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        for _ in range(SOCKETS):
            try:
                socket = await http.ws_connect(gateway.ws_url)
            except aiohttp.WSServerHandshakeError:
                async with http.get(gateway.http_url, headers=UPGRADE) as answer:
                    return {
                        "status": answer.status,
                        "type": answer.headers["Content-Type"],
                        "body": await answer.text(),
                    }
            stack.push_async_callback(socket.close)
    return None


async def _challenge(gateway: RealGateway) -> Recorded:
    async with aiohttp.ClientSession() as http, http.ws_connect(gateway.ws_url) as socket:
        frame: Recorded = json.loads((await socket.receive()).data)
        return frame


if __name__ == "__main__":
    asyncio.run(main())
