"""How an OpenClaw gateway appears through Latchkey. Each method is one case."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import AsyncExitStack
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from services.cli.upstream_config import upstream_config
from services.gateway.relay.rules.headers import ForwardedClient, forwarded_headers
from services.gateway.relay.upstream.examiner import EXAMINER_ADDRESS, Examiner
from services.gateway.relay.upstream.upstream import Upstream, UpstreamAddress
from shared.clock import SystemClock
from shared.device_tokens import NAMED_CHARACTERS
from shared.server.loop_budget import LoopBudget
from shared.upstream import UPSTREAM_PREAUTH_LIMIT
from shared.version import VERSION
from tools.interop.facts import Facts, Unexpected, either
from tools.interop.ui.scenario import CONNECTED, CONTROL_UI

if TYPE_CHECKING:
    from tools.interop.doctor.gateway import RealGateway
    from tools.interop.latchkey import Latchkey
    from tools.interop.relay.mistakes import Gateway, Mistake
    from tools.interop.ui.browser import Browser, Page
    from tools.interop.wiretap import Heard

SECRET: Final = "upstream-secret-of-32-characters"
ORIGIN: Final = "https://chat.example"
RELOAD_SECONDS: Final = 20.0
"""Maximum time for the upstream to apply a change of its configuration."""
_CONFIG: Final = "/control-ui-config.json"
_SCRIPT: Final = re.compile(r"assets/[\w.-]+\.js")


def right_settings(origin: str) -> Gateway:
    """Return the settings that `latchkey upstream config` prints, for gateways on this machine."""
    config = upstream_config(
        SECRET,
        origins=[origin, ORIGIN],
        replicas=["127.0.0.1/32"],
        password="password-for-the-machine-itself",
    )
    gateway: Gateway = config["gateway"]
    return gateway


class RelayScenario:
    """The user of a browser at Latchkey with the upstream behind it."""

    def __init__(
        self,
        latchkey: Latchkey,
        upstream: RealGateway,
        browser: Browser,
        heard: list[Heard],
        ending: AsyncExitStack,
    ) -> None:
        self._latchkey = latchkey
        self._upstream = upstream
        self._browser = browser
        self._heard = heard
        self._ending = ending
        self._site = latchkey.gateway.replace("ws://", "http://")
        self._page: Page | None = None
        self._device_id = ""

    async def opened(self) -> Facts:
        """Open the upstream's own dashboard through Latchkey, in a new browser."""
        await self._write(right_settings(self._site))
        url = f"{self._site}/#token={self._latchkey.gateway_token}"
        self._page = await self._ending.enter_async_context(self._browser.profile(url))
        await self._page.see("^Approve this browser$")
        request = await self._request()
        self._device_id = request["deviceId"]
        await self._page.see(request["requestId"])
        return "Approve this browser", "names the request"

    async def approved(self) -> Facts:
        """Approve it over HTTP without touching the page; the upstream approves it next."""
        status = await self._latchkey.approve((await self._request())["requestId"])
        await self._shown.see(CONNECTED, seconds=20)
        return f"HTTP {status}", "Connected by itself"

    async def reloaded(self) -> Facts:
        """Open it again without the gateway token, with only the device token."""
        so_far = len(self._shown.admissions)
        await self._shown.go("about:blank")
        await self._shown.go(f"{self._site}/")
        await self._shown.admitted(after=so_far)
        await self._shown.see(CONNECTED)
        return ("Connected",)

    async def token_over_http(self) -> Facts:
        """Read the dashboard's configuration with the device token, none, and another one."""
        token = self._device_token()
        other = token[:-1] + ("Q" if token.endswith("A") else "A")
        statuses = [
            await self._status(headers)
            for headers in (
                {"Authorization": f"Bearer {token}"},
                {},
                {"Authorization": f"Bearer {other}"},
            )
        ]
        named = either(len(token) == NAMED_CHARACTERS, "names its device", "names no device")
        return named, *(f"HTTP {status}" for status in statuses)

    async def assets(self) -> Facts:
        """Load a script of the dashboard, compressed, then conditionally."""
        async with aiohttp.ClientSession(auto_decompress=False) as http:
            async with http.get(f"{self._site}/", headers={"Accept-Encoding": "identity"}) as page:
                found = _SCRIPT.search(await page.text())
            if found is None:
                raise Unexpected("the page names no script")
            url = f"{self._site}/{found[0]}"
            async with http.get(url, headers={"Accept-Encoding": "br"}) as script:
                coding = script.headers.get("Content-Encoding", "none")
                modified = script.headers.get("Last-Modified", "")
                stored = "immutable" in script.headers.get("Cache-Control", "")
            async with http.get(url, headers={"If-Modified-Since": modified}) as again:
                status = again.status
        return coding, either(stored, "kept for ever", "not kept"), f"HTTP {status}"

    async def private(self) -> Facts:
        """Request paths that gateways do not forward."""
        async with aiohttp.ClientSession() as http:
            statuses = []
            for path in ("/v1/models", "/tools/invoke", "/hooks/wake", "/__openclaw__/worker"):
                async with http.get(f"{self._site}{path}") as answer:
                    statuses.append(str(answer.status))
        return (" ".join(statuses),)

    async def revoked(self) -> Facts:
        """Revoke the browser's token: its page and its token stop working."""
        token = self._device_token()
        path = f"/v1/devices/{self._device_id}/tokens/operator/revoke"
        status, _ = await self._latchkey.call("POST", path)
        await self._shown.see(CONNECTED, gone=True)
        after = await self._status({"Authorization": f"Bearer {token}"})
        return f"HTTP {status}", "disconnected", f"HTTP {after}"

    async def state_told(self) -> Facts:
        """Read the state of the upstream from the HTTP API."""
        _, live = await self._latchkey.call("GET", "/v1/replicas")
        found = [gateway["upstream"] for gateway in live["gateways"]]
        versions = {item.get("version", "no version") for item in found}
        problems = {problem for item in found for problem in item.get("problems", ())}
        return f"{len(found)} gateways", *versions, " ".join(sorted(problems)) or "no problem"

    async def spoilt(self, mistake: Mistake) -> Facts:
        """Break the configuration, and examine it as gateways do."""
        settings = deepcopy(right_settings(self._site))
        mistake.spoil(settings)
        await self._write(settings)
        return tuple(await self._found(mistake.found))

    async def crowded(self) -> Facts:
        """Open as many sockets as the upstream accepts from one address, and examine it."""
        own = ForwardedClient(address=EXAMINER_ADDRESS, loopback=False, secure=False, host="x")
        headers = forwarded_headers(own)
        async with AsyncExitStack() as open_sockets, aiohttp.ClientSession() as http:
            for _ in range(UPSTREAM_PREAUTH_LIMIT):
                await open_sockets.enter_async_context(
                    http.ws_connect(self._upstream.ws_url, headers=headers)
                )
            return tuple(await examined(self._upstream.ws_url, http))

    async def mended(self) -> Facts:
        """Restore the right configuration."""
        await self._write(right_settings(self._site))
        return tuple(await self._found("")) or ("no problem",)

    # Helpers of the cases.

    @property
    def _shown(self) -> Page:
        if self._page is None:
            raise Unexpected("no page is open")
        return self._page

    async def _request(self) -> dict[str, Any]:
        _, waiting = await self._latchkey.call("GET", "/v1/requests")
        found = [request for request in waiting["pending"] if request["clientId"] == CONTROL_UI]
        if not found:
            raise Unexpected("no browser waits")
        request: dict[str, Any] = found[0]
        return request

    def _device_token(self) -> str:
        """Return the device token of the newest hello-ok."""
        for frame in reversed(self._heard):
            payload = frame.frame.get("payload")
            if isinstance(payload, dict) and payload.get("type") == "hello-ok":
                return str(payload["auth"]["deviceToken"])
        raise Unexpected("no hello-ok was heard")

    async def _status(self, headers: dict[str, str]) -> int:
        async with (
            aiohttp.ClientSession() as http,
            http.get(self._site + _CONFIG, headers=headers) as answer,
        ):
            return answer.status

    async def _write(self, settings: Gateway) -> None:
        """Write the upstream's configuration, which it reloads by itself."""
        file = self._upstream.log.parent / "openclaw.json"
        text = json.dumps({"gateway": settings})
        await asyncio.to_thread(file.write_text, text)

    async def _found(self, expected: str) -> list[str]:
        """Examine until exactly this is found, or the time is up."""
        found: list[str] = []
        wanted = [expected] if expected else []
        try:
            async with asyncio.timeout(RELOAD_SECONDS), aiohttp.ClientSession() as http:
                while True:
                    found = await examined(self._upstream.ws_url, http)
                    if found == wanted:
                        return found
                    await asyncio.sleep(0.5)
        except TimeoutError:
            return found


async def examined(url: str, http: aiohttp.ClientSession) -> list[str]:
    """Examine an upstream as gateways do."""
    budget = LoopBudget(lambda run: asyncio.get_running_loop().call_soon(run))
    upstream = Upstream(UpstreamAddress.parse(url), [SECRET], SystemClock(), budget)
    return (await Examiner(upstream, VERSION, [ORIGIN]).examine(http)).problems
