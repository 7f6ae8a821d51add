"""Outages of the upstream and of gateways: a browser, a node and a command line come back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import aiohttp

from services.gateway import log_events
from shared.protocol.closing import CloseCode
from tools.interop.cases import Case
from tools.interop.facts import Facts, Unexpected, either
from tools.interop.relay.programs.node_host import NodeHost
from tools.interop.relay.programs.owner import OwnersCommand
from tools.interop.relay.setup import Relayed, until
from tools.interop.ui.scenario import CONNECTED, CONTROL_UI

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tools.interop.relay.setup import Setup
    from tools.interop.ui.browser import Browser, Page
    from tools.support.processes.service import ServiceProcess

BACK_SECONDS: Final = 60.0
"""How long everything may take to be back, the boot of the upstream included."""
AWAY_SECONDS: Final = 30.0
"""How long the upstream stays away: long enough for every client to have retried repeatedly."""
_STRANGER: Final = "203.0.113.30"
_RETRYABLE: Final = {int(CloseCode.RESTART), int(CloseCode.TRY_AGAIN)}
_OWN_LEAVE: Final = {1000, 1001}
"""How clients close by themselves."""


class OutageScenario:
    """A browser at the first gateway, a node at the second, a command line at both."""

    def __init__(self, setup: Setup, browser: Browser) -> None:
        self._setup = setup
        self._browser = browser
        self._command = OwnersCommand(setup, "outage-owner")
        token = setup.stack.gateway_token
        self._node = NodeHost(setup.data / "outage-node", "Outage", token)
        self._node_id = ""
        self._page: Page | None = None
        self._settled = False

    async def settled(self) -> Facts:
        """Connect all three."""
        setup = self._setup
        setup.ending.push_async_callback(self._node.stop)
        url = f"{setup.gateways[0].url}/#token={setup.stack.gateway_token}"
        self._page = await setup.ending.enter_async_context(self._browser.profile(url))
        request = await setup.request_of(CONTROL_UI)
        (await setup.operator.approve(request["requestId"])).ok()
        await self._page.see(CONNECTED, seconds=20)
        await self._node.start(setup.gateways[1].port)
        request = await setup.request_of("node-host", seconds=BACK_SECONDS)
        self._node_id = request["deviceId"]
        (await setup.operator.approve(request["requestId"])).ok()
        await self._node.stop()  # it waits for its operator
        await self._node.start(setup.gateways[1].port)
        await until(self._node_is_connected, "the node is connected", seconds=BACK_SECONDS)
        await self._command("cron", "list")
        self._settled = True
        return ("all connected",)

    async def ended(self) -> Facts:
        """End the upstream as its service manager does, and start it again."""

        async def outage() -> None:
            await self._setup.upstream.end()
            await self._setup.upstream.start()

        return await self._after(outage)

    async def killed(self) -> Facts:
        """Kill the upstream, and start it again."""

        async def outage() -> None:
            await self._setup.upstream.kill()
            await self._setup.upstream.start()

        return await self._after(outage)

    async def away(self) -> Facts:
        """Leave the upstream away for a while: what gateways do alone still works."""
        setup, found = self._setup, list[str]()

        async def outage() -> None:
            await setup.upstream.kill()
            await asyncio.sleep(AWAY_SECONDS)
            stranger = Relayed(setup.stack, address=_STRANGER)
            await stranger.request_pairing(setup.gateways[0])
            found.append("pairing works")
            ready = setup.gateways[0].ready_answer()
            named = "upstream" in await _text(f"{setup.gateways[0].url}/readyz")
            found.append(either(bool(ready and ready.ready and named), "ready", f"{ready}"))
            page = await _text(f"{setup.gateways[1].url}/chat", html=True)
            found.append(either("OpenClaw" in page and "<html" in page, "a page says so", page))
            # A command that is started now has to wait for the upstream.
            command = asyncio.create_task(self._command("cron", "list"))
            await setup.upstream.start()
            await command
            found.append("a command waited")

        back = await self._after(outage)
        return (*found, *back)

    async def gateway_ended(self) -> Facts:
        """End the browser's gateway, and start it again."""
        gateway = self._setup.gateways[0]

        async def outage() -> None:
            gateway.terminate()
            await gateway.until_ended()
            gateway.start()
            await gateway.until_ready()

        return await self._after(outage)

    async def gateway_killed(self) -> Facts:
        """Kill the node's gateway, and start it again."""
        gateway = self._setup.gateways[1]

        async def outage() -> None:
            gateway.kill9()
            await gateway.until_ended()
            gateway.start()
            await gateway.until_ready()

        return await self._after(outage)

    async def _after(self, outage: Callable[[], Awaitable[None]]) -> Facts:
        """Return what is back after an outage, and with which codes clients were closed."""
        page = self._page
        if page is None or not self._settled:
            raise Unexpected("nobody is connected")
        known = {name: len(gateway.logs()) for name, gateway in self._by_name().items()}
        await outage()
        await until(self._node_is_connected, "the node is back", seconds=BACK_SECONDS)
        await page.see(CONNECTED, seconds=BACK_SECONDS)
        await self._command("cron", "list", gateway=0)
        await self._command("cron", "list", gateway=1)
        codes: set[int] = set()
        for name, gateway in self._by_name().items():
            new = gateway.logs()[known[name] :]
            codes |= {
                line["code"]
                for line in new
                if line["event"] in {log_events.DISCONNECTED.name, "connection"}
                and "code" in line
                and line.get("address") != _STRANGER
            }
        others = codes - _RETRYABLE - _OWN_LEAVE
        return "browser, node, command", either(not others, "1012 and 1013 alone", f"{others}")

    def _by_name(self) -> dict[str, ServiceProcess]:
        return {gateway.name: gateway for gateway in self._setup.gateways}

    async def _node_is_connected(self) -> bool:
        if not self._node.runs:
            raise Unexpected(f"the node ended: {self._node.said()[-300:]}")
        async with self._setup.owner() as owner:
            listed = await owner.call("node.list", {})
        return any(
            one["nodeId"] == self._node_id and one.get("connected")
            for one in listed.payload["nodes"]
        )


async def _text(url: str, *, html: bool = False) -> str:
    headers = {"Accept": "text/html"} if html else {}
    async with aiohttp.ClientSession() as http, http.get(url, headers=headers) as answer:
        return await answer.text()


_BACK: Final = ("browser, node, command", "1012 and 1013 alone")
CASES: Final = (
    Case("all connected", OutageScenario.settled, ("all connected",)),
    Case("the upstream ends", OutageScenario.ended, _BACK),
    Case("the upstream is killed", OutageScenario.killed, _BACK),
    Case(
        "the upstream is away",
        OutageScenario.away,
        ("pairing works", "ready", "a page says so", "a command waited", *_BACK),
    ),
    Case("a gateway ends", OutageScenario.gateway_ended, _BACK),
    Case("a gateway is killed", OutageScenario.gateway_killed, _BACK),
)
