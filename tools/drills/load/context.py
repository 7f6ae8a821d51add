"""The environment of the load: a stack, an operator, and the current observations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tools.drills.judging.observed import Observed
    from tools.drills.load.grants import Grants
    from tools.drills.load.operator_api import OperatorApi
    from tools.drills.stack.stack import DrillStack


@dataclass(slots=True)
class LoadContext:
    """`seen` is replaced for each case; observations between two cases belong to the next."""

    stack: DrillStack
    api: OperatorApi
    grants: Grants
    seen: Observed

    @property
    def url(self) -> str:
        """The address to which devices connect: HAProxy."""
        return self.stack.haproxy.ws_url
