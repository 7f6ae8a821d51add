"""Clients that nobody has approved, in crowds: the upstream sees none of them."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final

import aiohttp

from shared.device.handshake import Refused
from shared.device.profile import CLI
from tools.interop.cases import Case
from tools.interop.facts import Facts, either
from tools.interop.relay.setup import Relayed, until

if TYPE_CHECKING:
    from tools.interop.relay.setup import Setup
    from tools.interop.ui.browser import Browser

SOCKETS: Final = 500
CONNECTS: Final = 300
AT_A_TIME: Final = 25
LEASE_SECONDS: Final = 20.0
"""By when a gateway without approval has closed everybody."""
_KNOWN: Final = "198.51.100.50"
_FORWARDED: Final = re.compile(r"\bfwd=198\.1[89]\.\d+\.\d+")
"""An address that only strangers have, in the upstream's log."""


class StrangerScenario:
    """A known device among crowds of unknown ones."""

    def __init__(self, setup: Setup, _browser: Browser) -> None:
        self._setup = setup

    async def seen(self) -> Facts:
        """Open a socket from a known address and leave: the upstream's log shows that one."""
        await self._leave_a_mark(_KNOWN)
        return ("in the upstream's log",)

    async def sockets(self) -> Facts:
        """Hold sockets open from unknown addresses, and use a known device meanwhile."""
        setup = self._setup
        connector = aiohttp.TCPConnector(limit=SOCKETS)
        async with aiohttp.ClientSession(connector=connector) as http:
            opened = []
            for number in range(SOCKETS):
                address = f"198.18.{number // 250}.{number % 250 + 1}"
                gateway = setup.gateways[number % 2]
                headers = {"X-Forwarded-For": address}
                opened.append(await http.ws_connect(gateway.ws_url, headers=headers))
            served = await self._known_is_served()
            still_open = sum(not socket.closed for socket in opened)
        await self._leave_a_mark("198.51.100.54")
        return f"{still_open} open", served, f"{self._strangers_upstream()} upstream"

    async def connects(self) -> Facts:
        """Connect as that many devices that nobody knows, and use a known device meanwhile."""
        setup, outcomes = self._setup, set[str]()
        slots = asyncio.Semaphore(AT_A_TIME)

        async def connect(number: int) -> None:
            address = f"198.19.{number // 250}.{number % 250 + 1}"
            stranger = Relayed(setup.stack, address=address)
            async with slots, stranger.client(setup.gateways[number % 2]) as client:
                outcome = await client.connect()
                outcomes.add(outcome.code if isinstance(outcome, Refused) else "admitted")

        storm = asyncio.gather(*(connect(number) for number in range(CONNECTS)))
        served = await self._known_is_served()
        await storm
        await self._leave_a_mark("198.51.100.55")
        return (
            either("admitted" in outcomes, "some admitted", "none admitted"),
            served,
            f"{self._strangers_upstream()} upstream",
        )

    async def no_approval(self) -> Facts:
        """End approval: nobody new, sessions until the lease ends, and back when it is back."""
        setup, approval = self._setup, self._setup.stack.approvals[0]
        client = await setup.joined(0, CLI, "198.51.100.51")
        one = await setup.device(1, CLI, "198.51.100.52")
        approval.kill9()
        refused = await one.expect_refusal(setup.gateways[1])
        still = (await client.call("sessions.list", {})).ok
        closed = await client.closed(within=LEASE_SECONDS)
        approval.start()
        await approval.until_ready()
        for gateway in setup.gateways:
            await gateway.until_ready()
        again = await one.connect_when_ready(setup.gateways[1])
        back = (await again.call("sessions.list", {})).ok
        await again.close()
        return (
            refused.code,
            either(still, "served until then", "not served"),
            f"closed {closed.code}",
            either(back, "back", "not back"),
        )

    async def _known_is_served(self) -> str:
        client = await self._setup.joined(1, CLI, "198.51.100.53")
        answer = await client.call("sessions.list", {})
        return either(answer.ok, "a known one is served", f"{answer.error}")

    async def _leave_a_mark(self, address: str) -> None:
        """Open a socket from an address that becomes known, leave, and wait for the log of it.

        What the upstream saw before it has logged by then.
        """
        setup = self._setup
        one = await setup.device(0, CLI, address)
        client = one.client(setup.gateways[0])
        await client.challenge()
        await client.close()
        await until(lambda: f"fwd={address}" in self._log(), "the upstream logs it")

    def _log(self) -> str:
        return self._setup.upstream.log.read_text(errors="replace")

    def _strangers_upstream(self) -> int:
        return len(set(_FORWARDED.findall(self._log())))


CASES: Final = (
    Case("a known address", StrangerScenario.seen, ("in the upstream's log",)),
    Case(
        "sockets of strangers",
        StrangerScenario.sockets,
        (f"{SOCKETS} open", "a known one is served", "0 upstream"),
    ),
    Case(
        "devices of strangers",
        StrangerScenario.connects,
        ("none admitted", "a known one is served", "0 upstream"),
    ),
    Case(
        "no approval",
        StrangerScenario.no_approval,
        ("UNAVAILABLE", "served until then", "closed 1013", "back"),
    ),
)
