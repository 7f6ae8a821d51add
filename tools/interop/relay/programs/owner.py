"""An owner's command line at alternating gateways; the owner approves all its requests."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

from tools.interop.cli.output_facts import done
from tools.interop.cli.program import OpenClaw, Ran
from tools.interop.facts import Unexpected

if TYPE_CHECKING:
    from tools.interop.relay.setup import Setup

APPROVALS_MOST: Final = 4
"""Maximum approvals for one command: the device, then further scopes."""
_ITSELF: Final = ("cli", "gateway-client")
"""The client ids of its connections; `nodes approve` also connects as a program."""


class OwnersCommand:
    """`openclaw`, with a home of its own."""

    def __init__(self, setup: Setup, name: str) -> None:
        self._setup = setup
        home = setup.data / name
        self._programs = [
            OpenClaw(4, home, setup.entry(number), remote=True) for number in range(2)
        ]
        self._turns = itertools.cycle(range(2))
        self._has_device = False

    async def __call__(self, *command: str, gateway: int | None = None) -> Ran:
        """Run a command, again after each approval it needs. Raises Unexpected if it fails."""
        if not self._has_device:  # only some commands make a request
            self._has_device = True
            await self("cron", "list")
        ran = await self._run(command, gateway)
        for _ in range(APPROVALS_MOST):
            if ran.status == 0 or not await self._approve():
                break
            ran = await self._run(command, gateway)
        try:
            done(ran)
        except Unexpected as error:
            raise Unexpected(f"{' '.join(command)}: {error}") from None
        return ran

    async def _run(self, command: tuple[str, ...], gateway: int | None) -> Ran:
        program = self._programs[next(self._turns) if gateway is None else gateway]
        return await program(*command)

    async def _approve(self) -> bool:
        """Approve its device's request; returns False if there is none."""
        operator = self._setup.operator
        asked = [request for request in await operator.pending() if request["clientId"] in _ITSELF]
        for request in asked:
            (await operator.approve(request["requestId"])).ok()
        return bool(asked)
