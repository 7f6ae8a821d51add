"""Where the crowd is: before one house, with one desk, and one list of what is seen now."""

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
    """`seen` is exchanged for each case; what is seen between two belongs to the next."""

    house: House
    desk: Desk
    grants: Grants
    seen: Observed

    @property
    def url(self) -> str:
        """Where devices connect: HAProxy."""
        return self.house.edge.ws_url
