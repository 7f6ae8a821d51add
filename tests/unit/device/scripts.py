"""Shared by the client's tests: its key, short timeouts, and a gateway that refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.device.identity import DeviceKey
from shared.device.opening import Timeouts

if TYPE_CHECKING:
    from tests.support.stubs.gateway import Socket

KEY = DeviceKey.from_seed(b"\x11" * 32)
QUICK = Timeouts(open=1, challenge=0.1, outcome=0.1, call=0.1, close=0.1, send=1)
PAIRING = {
    "code": "NOT_PAIRED",
    "message": "pairing required: device is not approved yet",
    "details": {"code": "PAIRING_REQUIRED", "requestId": "r-1"},
}


async def refusing(socket: Socket) -> None:
    await socket.challenge()
    await socket.fail(await socket.hear(), PAIRING)
    await socket.close(1008, "pairing required (requestId: r-1)")
