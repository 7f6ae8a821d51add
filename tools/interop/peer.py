"""Another device beside the one under test: it requests access, connects, and is closed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from shared.device.client import DeviceClient
from shared.device.handshake import Admitted
from shared.device.identity import DeviceKey
from shared.device.profile import REFERENCE
from tools.interop.facts import Unexpected

if TYPE_CHECKING:
    from typing import Self

    from shared.device.handshake import Outcome
    from tools.interop.latchkey import Latchkey

AT_ONCE_SECONDS: Final = 1.0
STARTING: Final = "startup-sidecars"
"""What gateways say to a client that is to come back, as real ones do by themselves."""
STARTS_MOST: Final = 20
# Comes from another address, because gateways may trust clients of their own machine.
_ELSEWHERE: Final = {"X-Forwarded-For": "203.0.113.7"}


class Peer:
    """A new device that requests `operator.read`."""

    def __init__(self, latchkey: Latchkey, name: str = "") -> None:
        self._latchkey = latchkey
        self._key = DeviceKey.generate()
        # The dashboard merges devices of the same name and hides all but the latest.
        own = f"Device {self._key.device_id[:6]}"
        self._profile = replace(REFERENCE, display_name=name or own)
        self._client: DeviceClient | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._client is not None:
            await self._client.close()

    @property
    def device_id(self) -> str:
        """Its device id."""
        return self._key.device_id

    async def ask(self) -> str:
        """Connect and return the request id. Raises Unexpected if it is admitted."""
        outcome = await self._connect()
        if isinstance(outcome, Admitted):
            raise Unexpected("the other device was admitted")
        return outcome.request_id

    async def come_in(self) -> str:
        """Connect and stay; return the replica. Raises Unexpected if it is refused."""
        outcome = await self._connect()
        if not isinstance(outcome, Admitted):
            raise Unexpected(f"the other device was refused: {outcome.message}")
        return outcome.replica

    async def closed(self) -> str:
        """Return how its connection was closed. Raises NoAnswerError if it was not."""
        if self._client is None:
            raise Unexpected("the other device is not connected")
        close = await self._client.closed(within=AT_ONCE_SECONDS)
        return f"closed {close.code} {close.reason}"

    async def approved(self) -> str:
        """Request access and have it approved over HTTP; return the device id."""
        await self._latchkey.approve(await self.ask())
        return self.device_id

    async def _connect(self) -> Outcome:
        if self._client is not None:
            await self._client.close()
        for _ in range(STARTS_MOST):
            self._client = DeviceClient(
                self._latchkey.gateway,
                self._key,
                self._profile,
                token=self._latchkey.gateway_token,
                headers=_ELSEWHERE,
            )
            outcome = await self._client.connect()
            if isinstance(outcome, Admitted) or outcome.details.get("reason") != STARTING:
                return outcome
            await self._client.close()
            await asyncio.sleep((outcome.retry_after_ms or 0) / 1000)
        raise Unexpected("the gateway does not get past its start")
