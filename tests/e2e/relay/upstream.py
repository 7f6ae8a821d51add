"""The upstream secret of these tests, and devices whose token a browser may send."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shared.device_tokens import with_device_id
from shared.upstream import header_names
from tools.support.actors import SimulatedDevice

if TYPE_CHECKING:
    from tools.support.actors import Operator
    from tools.support.processes.stack import Stack

SECRET: Final = "the-upstream-secret-of-these-tests"
OLDER_SECRET: Final = "the-one-before-the-upstream-secret"
NAMES: Final = [header_names(SECRET), header_names(OLDER_SECRET)]
ORIGIN: Final = "https://chat.example"
CONFIG: Final = "/control-ui-config.json"
WITHOUT_UPSTREAM: Final = 2
"""The gateway at which devices get their tokens: it has no upstream."""


async def paired_with_token(stack: Stack, operator: Operator) -> tuple[SimulatedDevice, str]:
    """Return an approved device, and its token with its id in front."""
    device = SimulatedDevice(stack)
    alone = stack.gateways[WITHOUT_UPSTREAM]
    (await operator.approve(await device.request_pairing(alone))).ok()
    admitted = await device.connect_once(alone)
    return device, with_device_id(admitted.device_token or "", device.device_id)


def bearer(token: str, **more: str) -> dict[str, str]:
    """Return the header for a token, and these headers."""
    return {"Authorization": f"Bearer {token}", **more}
