"""The command line at alternating gateways, with a device and without one."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from shared.device.profile import CLI
from tools.interop.cases import Case
from tools.interop.cli.cases import REMOTE_4
from tools.interop.cli.output_facts import done, failed
from tools.interop.cli.program import OpenClaw, Ran
from tools.interop.cli.scenario import CliScenario
from tools.interop.facts import Facts, Unexpected, either
from tools.interop.latchkey import Latchkey
from tools.interop.relay.setup import Relayed

if TYPE_CHECKING:
    from tools.interop.relay.setup import Setup
    from tools.interop.ui.browser import Browser

TRUSTING: Final = {"GATEWAY_LOCAL_CLIENTS": "trust"}
_HEARTBEAT: Final = "heartbeat-main"
"""A job that every OpenClaw has."""


class Alternating(OpenClaw):
    """The command line with one home, each command at the next gateway."""

    def __init__(self, setup: Setup, name: str) -> None:
        home = setup.data / name
        super().__init__(4, home, setup.entry(0), remote=True)
        self._programs = itertools.cycle(
            OpenClaw(4, home, setup.entry(number), remote=True) for number in range(2)
        )

    async def __call__(self, *command: str) -> Ran:
        """Run a command with `--json`. Raises Unexpected if it does not end."""
        return await next(self._programs)(*command)

    async def by_environ(self, *command: str) -> Ran:
        """Run a command that takes the address from its environment."""
        return await next(self._programs).by_environ(*command)


class CommandLineScenario(CliScenario):
    """An operator who approves and manages devices, and uses what is the upstream's."""

    def __init__(self, setup: Setup, _browser: Browser) -> None:
        http = aiohttp.ClientSession(
            setup.stack.approvals[0].url,
            headers={"Authorization": f"Bearer {setup.stack.admin_token}"},
        )
        setup.ending.push_async_callback(http.close)
        entry = setup.entry(0)
        latchkey = Latchkey(entry.gateway, entry.gateway_token, http, 0)
        super().__init__(latchkey, Alternating(setup, "operator"), setup.ending)
        self._setup = setup
        self._local: OpenClaw | None = None

    async def scheduled(self) -> Facts:
        """List the upstream's jobs, at each gateway."""
        return await self._twice("cron", "list", shows=_HEARTBEAT)

    async def healthy(self) -> Facts:
        """Ask for the upstream's health, at each gateway."""
        ran = [await self._openclaw.by_environ("health") for _ in range(2)]
        shown = [done(each).get("ok") is True for each in ran]
        return (f"{sum(shown)} of {len(shown)}",)

    async def sessions(self) -> Facts:
        """Call a method of the upstream, at each gateway."""
        return await self._twice("gateway", "call", "sessions.list", shows='"sessions"')

    async def nodes(self) -> Facts:
        """Ask for the nodes, at each gateway."""
        return await self._twice("nodes", "status", shows='"nodes"')

    async def without_device(self) -> Facts:
        """Do the same on a trusted machine, where the command line brings no device."""
        gateway = await asyncio.to_thread(self._setup.stack.add_gateway, **TRUSTING)
        entry = replace(self._setup.entry(0), gateway=gateway.ws_url)
        local = self._local = OpenClaw(4, self._setup.data / "local", entry, remote=False)
        before = len(await self._setup.operator.devices())
        shown = [
            await _shown(local, "cron", "list", shows=_HEARTBEAT),
            await _shown(local, "gateway", "health", shows='"ok": true'),
            await _shown(local, "gateway", "call", "sessions.list", shows='"sessions"'),
            await _shown(local, "nodes", "status", shows='"nodes"'),
            await _shown(local, "devices", "list", shows='"paired"'),
        ]
        made = len(await self._setup.operator.devices()) - before
        return f"{sum(shown)} of {len(shown)}", either(made > 0, f"{made} devices", "no device")

    async def managed_without_device(self) -> Facts:
        """Approve and manage a device on that machine."""
        if self._local is None:
            raise Unexpected("there is no trusting gateway")
        setup = self._setup
        device = Relayed(setup.stack, profile=CLI, address="198.51.100.70")
        request_id = await device.request_pairing(setup.gateways[0])
        of_device = ("--device", device.device_id)
        found = []
        for command in (
            ("approve", request_id),
            ("rename", *of_device, "--name", "Kitchen"),
            ("rotate", *of_device, "--role", "operator"),
            ("revoke", *of_device, "--role", "operator"),
            ("remove", device.device_id),
        ):
            ran = await self._local("devices", *command)
            found.append(f"{command[0]} {ran.status}")
        there = device.device_id in await setup.operator.devices()
        return *found, either(there, "still there", "gone")

    async def protocol_3(self) -> Facts:
        """Connect the command line of protocol 3, which the upstream does not speak."""
        operator = self._setup.operator
        older = OpenClaw(3, self._setup.data / "older", self._setup.entry(0), remote=True)
        known = [one["requestId"] for one in await operator.pending()]
        refused = await older("devices", "list")
        new = [one for one in await operator.pending() if one["requestId"] not in known]
        return *failed(refused), either(not new, "nobody is asked", f"{len(new)} requests")

    async def _twice(self, *command: str, shows: str) -> Facts:
        shown = [await _shown(self._openclaw, *command, shows=shows) for _ in range(2)]
        return (f"{sum(shown)} of {len(shown)}",)


async def _shown(openclaw: OpenClaw, *command: str, shows: str) -> bool:
    ran = await openclaw(*command)
    done(ran)
    return shows in ran.out


_OWN: Final = (
    Case("cron list", CommandLineScenario.scheduled, ("2 of 2",)),
    Case("health", CommandLineScenario.healthy, ("2 of 2",)),
    Case("gateway call sessions.list", CommandLineScenario.sessions, ("2 of 2",)),
    Case("nodes status", CommandLineScenario.nodes, ("2 of 2",)),
)
# `nodes status` has asked for the right to see pending nodes too, and did without.
_ASKED_MORE: Final = Case(
    "list needs a scope more",
    CommandLineScenario.asked_for_more,
    (
        "exit 1",
        "scope upgrade pending approval (requestId: ID)",
        "asks for operator.read operator.pairing",
        "HTTP 200",
    ),
)
_INSTEAD: Final[dict[str, tuple[Case[Any], ...]]] = {
    "cron list, paired": _OWN,
    "list needs a scope more": (_ASKED_MORE,),
}
# The same as without an upstream, except that there is something to list once it is paired.
CASES: Final = (
    *(case for theirs in REMOTE_4 for case in _INSTEAD.get(theirs.name, (theirs,))),
    Case("without a device", CommandLineScenario.without_device, ("5 of 5", "no device")),
    Case(
        "devices, without a device",
        CommandLineScenario.managed_without_device,
        ("approve 0", "rename 0", "rotate 0", "revoke 0", "remove 0", "gone"),
    ),
    Case(
        "of protocol 3",
        CommandLineScenario.protocol_3,
        (
            "exit 1",
            (
                "[openclaw] Failed to start CLI: Error: gateway closed (1002): "
                "protocol mismatch: the OpenClaw behind this gateway needs protocol 4"
            ),
            "nobody is asked",
        ),
    ),
)
