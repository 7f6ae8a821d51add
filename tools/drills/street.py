"""The environment of the load: a stack, an operator, and the current observations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tools.drills.desk import Desk
    from tools.drills.grants import Grants
    from tools.drills.house import House
    from tools.drills.observed import Observed


@dataclass(slots=True)
class Street:
    """`seen` is replaced for each case; observations between two cases belong to the next."""

    house: House
    desk: Desk
    grants: Grants
    seen: Observed

    @property
    def url(self) -> str:
        """The address to which devices connect: HAProxy."""
        return self.house.edge.ws_url
