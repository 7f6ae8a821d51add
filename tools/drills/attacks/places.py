"""One address takes every place of a gateway with clients that present no device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tools.drills.attacks.attack import Attack
from tools.drills.attacks.strangers import read_all, repeat

if TYPE_CHECKING:
    from tools.drills.attacks.attack import Target

PLACES: Final = 600
SOCKETS: Final = 700
"""More than there are places: the others wait for one to become free."""
ADDRESS: Final = "127.66.1.1"
PAUSE_SECONDS: Final = 0.1


async def every_place(target: Target) -> None:
    """Enter, and stay for as long as possible."""
    await repeat(SOCKETS, target, read_all, addresses=(ADDRESS,), pause_seconds=PAUSE_SECONDS)


ATTACKS: Final = (
    Attack(
        name="every place taken by one address",
        do=every_place,
        gateway_settings={"GATEWAY_CONNECTION_LIMIT": str(PLACES)},
    ),
)
