"""Sends a gateway a first frame that it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shared.device.client import DeviceClient
from shared.device.handshake import Challenge
from tests.support.attempts import to_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from tools.support.processes.service import ServiceProcess

CLOSED_SECONDS: Final = 10.0


async def send_first_frame(
    gateway: ServiceProcess,
    frame: Callable[[Challenge], object],
    *,
    address: str | None = None,
    origin: str | None = None,
) -> None:
    """Connect, send this frame, and wait for the close; `address` is what a proxy would report."""
    headers = None if address is None else {"X-Real-IP": address}
    async with DeviceClient(gateway.ws_url, None, headers=headers, origin=origin) as client:
        challenge = await client.challenge()
        assert isinstance(challenge, Challenge)
        await client.send_text(to_bytes(frame(challenge)).decode())
        await client.closed(within=CLOSED_SECONDS)
