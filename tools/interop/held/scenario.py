"""Clients that wait for their approval in one `connect`; each method is one case."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any, Final

from tools.interop.cli.program import OpenClaw
from tools.interop.facts import Facts, Unexpected, either
from tools.interop.reference.roles import ROLES
from tools.interop.relay.programs.node_host import NodeHost

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tools.interop.cli.program import Ran
    from tools.interop.latchkey import Latchkey
    from tools.interop.reference.client import Reference

HELD_SECONDS: Final = 2.0
"""How long the operator takes to decide."""
START_SECONDS: Final = 60.0
"""Maximum time for a client to start and ask, and to be connected."""
POLL_SECONDS: Final = 0.2


class HeldScenario:
    """One operator, and new devices. `protocol` selects the release of `openclaw`."""

    def __init__(
        self, latchkey: Latchkey, reference: Reference, data: Path, logs: Path, protocol: int
    ) -> None:
        self._latchkey = latchkey
        self._reference = reference
        self._data = data
        self._logs = logs
        self._protocol = protocol
        self._command = self._new_command("approved")

    # The command line.

    async def command_approved(self) -> Facts:
        """Approve the device of a command that is running."""
        ran, request = await self._while_it_runs(self._command, ("cron", "list"), "approve")
        return *self._ending(ran, "pairing required"), *await self._outcomes(request["deviceId"])

    async def command_approved_for_more(self) -> Facts:
        """Approve the scopes that another command of the same device needs."""
        ran, request = await self._while_it_runs(self._command, ("devices", "list"), "approve")
        listed = [one["deviceId"] for one in ran.json["paired"]]
        return (
            f"exit {ran.status}",
            either(request["deviceId"] in listed, "lists devices", f"lists {listed}"),
        )

    async def command_rejected(self) -> Facts:
        """Reject the device of a command that is running."""
        command = self._new_command("rejected")
        ran, request = await self._while_it_runs(command, ("cron", "list"), "reject")
        return *self._ending(ran, "pairing required"), *await self._outcomes(request["deviceId"])

    async def command_undecided(self) -> Facts:
        """Decide nothing: the command prints the refusal before it gives up by itself."""
        command = self._new_command("undecided")
        ran, request = await self._while_it_runs(command, ("cron", "list"), "")
        await self._decide(request, "reject")
        return *self._ending(ran, "pairing required"), *await self._outcomes(request["deviceId"])

    # A node.

    async def node_approved(self) -> Facts:
        """Approve a node that is running: it is connected without another attempt."""
        host = self._new_node("approved")
        try:
            await host.start(int(self._latchkey.gateway.rpartition(":")[2]))
            request = await self._request("node-host")
            await asyncio.sleep(HELD_SECONDS)
            await self._decide(request, "approve")
            facts = await self._outcomes(request["deviceId"])
            return *facts, either(host.runs, "runs", f"ended: {host.said()[-300:]}")
        finally:
            await host.stop()

    async def node_undecided(self) -> Facts:
        """Decide nothing: a node waits until it is refused."""
        host = self._new_node("undecided")
        try:
            await host.start(int(self._latchkey.gateway.rpartition(":")[2]))
            request = await self._request("node-host")
            facts = await self._outcomes(request["deviceId"])
        finally:
            await host.stop()
        await self._decide(request, "reject")
        return facts[:1]

    # The reference client.

    async def reference_approved(self) -> Facts:
        """Approve a program while it connects."""
        device = await self._reference.device()
        options = ROLES[0].options(token=self._latchkey.gateway_token)
        client = await device.connect(**options, url=self._latchkey.gateway)
        try:
            request = await self._request("gateway-client")
            await asyncio.sleep(HELD_SECONDS)
            await self._decide(request, "approve")
            await client.hello()
            return await self._outcomes(device.id)
        finally:
            await client.stop()

    async def reference_undecided(self) -> Facts:
        """Decide nothing: the program waits until it is refused, and names its request."""
        device = await self._reference.device()
        options = ROLES[0].options(token=self._latchkey.gateway_token)
        client = await device.connect(**options, url=self._latchkey.gateway)
        try:
            error = await client.refusal()
            request = await self._request("gateway-client")
        finally:
            await client.stop()
        await self._decide(request, "reject")
        named = (error["pairing"] or {}).get("requestId") == request["requestId"]
        facts = await self._outcomes(device.id)
        return *facts, either(named, "names the request", f"gets {error}")

    # Building blocks.

    def _new_node(self, name: str) -> NodeHost:
        return NodeHost(
            self._data / f"node-{name}-{self._protocol}",
            f"Held node {self._protocol}",
            self._latchkey.gateway_token,
            protocol=self._protocol,
        )

    def _new_command(self, name: str) -> OpenClaw:
        home = self._data / f"command-{name}-{self._protocol}"
        return OpenClaw(self._protocol, home, self._latchkey, remote=True)

    async def _while_it_runs(
        self, command: OpenClaw, words: Sequence[str], decision: str
    ) -> tuple[Ran, dict[str, Any]]:
        """Run a command; decide its request meanwhile. Return its result and the request."""
        running = asyncio.create_task(command(*words))
        try:
            request = await self._request("cli")
            await asyncio.sleep(HELD_SECONDS)
            if running.done():
                raise Unexpected(f"it did not wait: {running.result().reason()}")
            if decision:
                await self._decide(request, decision)
            return await running, request
        finally:
            running.cancel()

    def _ending(self, ran: Ran, refusal: str) -> Facts:
        """Return the exit status, and whether the command was refused."""
        text = ran.out + ran.errors
        return f"exit {ran.status}", either(refusal in text, f"prints {refusal}", "not refused")

    async def _request(self, client_id: str) -> dict[str, Any]:
        """Wait for the only request of a client, and return it."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            _, body = await self._latchkey.call("GET", "/v1/requests")
            for request in body["pending"]:
                if request["clientId"] == client_id:
                    found: dict[str, Any] = request
                    return found
            await asyncio.sleep(POLL_SECONDS)
        raise Unexpected(f"no request of {client_id}")

    async def _decide(self, request: dict[str, Any], decision: str) -> None:
        status, _ = await self._latchkey.call(
            "POST", f"/v1/requests/{request['requestId']}/{decision}"
        )
        if status not in {200, 409}:
            raise Unexpected(f"HTTP {status}")

    async def _outcomes(self, device_id: str) -> Facts:
        """Return how the gateways' logs say that the attempts of a device ended."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            lines = [line for line in self._log_lines() if line.get("device") == device_id]
            if lines:
                return tuple(
                    f"{line['outcome']}{' after a hold' if 'held_ms' in line else ''}"
                    for line in lines
                )
            await asyncio.sleep(POLL_SECONDS)
        raise Unexpected("no attempt is logged")

    def _log_lines(self) -> list[dict[str, Any]]:
        return [
            json.loads(text)
            for log in sorted(self._logs.glob("gateway*.log"))
            for text in log.read_text().splitlines()
            if text.startswith("{") and '"outcome"' in text
        ]
