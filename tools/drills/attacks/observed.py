"""What was observed around one attack: samples, lost sessions, memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tools.drills.attacks.storm_result import StormResult


@dataclass(frozen=True, slots=True)
class Sample:
    """One request: when it began and ended, in seconds, and why it failed (empty: it did not)."""

    began: float
    ended: float
    why: str = ""
    attempts: int = 1
    """How often a newcomer tried."""

    @property
    def seconds(self) -> float:
        """How long it took; infinite if it failed."""
        return float("inf") if self.why else self.ended - self.began


@dataclass(slots=True)
class Observed:
    """One attack, from `began` to `over`; observed until `until`."""

    attack: str
    began: float = 0.0
    over: float = 0.0
    until: float = 0.0
    health: list[Sample] = field(default_factory=list)
    calls: list[Sample] = field(default_factory=list)
    newcomers: list[Sample] = field(default_factory=list)
    """From the first attempt to the decision, or to the deadline."""
    serves_newcomers: bool = True
    sessions: int = 0
    lost: int = 0
    gateway_bytes: int = 0
    """Most memory of a gateway, over what it used before the attack."""
    approval_bytes: int = 0
    storm: StormResult | None = None
    drill_stalled: float = 0.0
    """Longest delay of the observing process: the machine was busy."""
    broken: str = ""
    """Why the attack could not be carried out to its end."""
