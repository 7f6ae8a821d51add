"""Two node hosts at different gateways, and a command line that uses them."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tools.interop.cases import Case
from tools.interop.facts import Facts, Unexpected, either
from tools.interop.relay.programs.node_host import NodeHost
from tools.interop.relay.programs.owner import OwnersCommand
from tools.interop.relay.setup import until

if TYPE_CHECKING:
    from tools.interop.relay.setup import Setup
    from tools.interop.ui.browser import Browser

START_SECONDS: Final = 40.0
"""Maximum time for a node host to load and connect."""
BACK_SECONDS: Final = 5.0
"""How long to watch a removed node; it retries about every second."""
NODE_CLIENT: Final = "node-host"
_PROGRAM: Final = "sh"


class NodeScenario:
    """The owner of two machines."""

    def __init__(self, setup: Setup, _browser: Browser) -> None:
        self._setup = setup
        self._command = OwnersCommand(setup, "nodes-owner")
        self._hosts = [
            NodeHost(setup.data / f"node-{number}", f"Node {number}", setup.stack.gateway_token)
            for number in range(2)
        ]
        for host in self._hosts:
            setup.ending.push_async_callback(host.stop)
        self._ids: list[str] = []

    async def paired(self) -> Facts:
        """Start both, approve both, and start them again."""
        setup = self._setup
        await self._start()
        for host in self._hosts:
            request = await until(
                partial(self._request, host.name), "its request", seconds=START_SECONDS
            )
            self._ids.append(request["deviceId"])
            (await setup.operator.approve(request["requestId"])).ok()
            await host.stop()
        await self._start()
        rows = await until(self._both_connected, "two nodes", seconds=START_SECONDS)
        return either({row["nodeId"] for row in rows} == set(self._ids), "two rows", f"{rows}"), (
            "connected"
        )

    async def approved(self) -> Facts:
        """Approve their capabilities, with the command line at alternating gateways."""
        pending = json.loads((await self._command("nodes", "pending")).out)
        for request in pending:
            await self._command("nodes", "approve", request["requestId"])
        left = json.loads((await self._command("nodes", "pending")).out)
        return f"{len(pending)} approved", f"{len(left)} left"

    async def invoked(self) -> Facts:
        """Invoke a command on each node, once through each gateway."""
        found = []
        for node in self._ids:
            for gateway in range(2):
                params = json.dumps({"bins": [_PROGRAM]})
                ran = await self._command(
                    *("nodes", "invoke", "--node", node, "--command", "system.which"),
                    *("--params", params),
                    gateway=gateway,
                )
                found.append(f"/{_PROGRAM}" in ran.out)
        return (f"{sum(found)} of {len(found)} found",)

    async def removed(self) -> Facts:
        """Remove the first: no gateway admits it, even after a restart."""
        setup, node, host = self._setup, self._ids[0], self._hosts[0]
        await self._command("nodes", "remove", "--node", node)
        await until(lambda: self._request(host.name), "it asks for approval again")
        await host.stop()
        await host.start(setup.gateways[1].port)
        await asyncio.sleep(BACK_SECONDS)
        rows = [node["nodeId"] for node in await self._nodes()]
        return (
            either(node in rows, "still listed", "gone"),
            either(self._ids[1] in rows, "the other stays", f"{rows}"),
            either(node in await setup.present_upstream(), "present upstream", "not upstream"),
        )

    async def _start(self) -> None:
        for host, gateway in zip(self._hosts, self._setup.gateways, strict=True):
            await host.start(gateway.port)

    async def _request(self, name: str) -> dict[str, Any] | None:
        pending = await self._setup.operator.pending()
        return next(
            (
                request
                for request in pending
                if request["clientId"] == NODE_CLIENT and request.get("displayName") == name
            ),
            None,
        )

    async def _nodes(self) -> list[dict[str, Any]]:
        ran = await self._command("nodes", "status")
        found: list[dict[str, Any]] = ran.json["nodes"]
        return found

    async def _both_connected(self) -> list[dict[str, Any]]:
        for host in self._hosts:
            if not host.runs:
                raise Unexpected(f"{host.name} ended: {host.said()[-300:]}")
        rows = [node for node in await self._nodes() if node.get("connected")]
        return rows if len(rows) == len(self._hosts) else []


CASES: Final = (
    Case("node run, twice", NodeScenario.paired, ("two rows", "connected")),
    Case("nodes approve", NodeScenario.approved, ("2 approved", "0 left")),
    Case("nodes invoke system.which", NodeScenario.invoked, ("4 of 4 found",)),
    Case("nodes remove", NodeScenario.removed, ("gone", "the other stays", "not upstream")),
)
