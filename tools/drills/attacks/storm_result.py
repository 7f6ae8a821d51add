"""What a storm completed, relative to the rate of the same services without one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StormResult:
    """Rates per second, times in seconds; None: not measured, or not reached.

    `closed_rate` is the rate of admissions with a fixed number of clients, measured just before.
    """

    closed_rate: float
    offered: int
    """Attempts of an open storm, or devices that were dropped."""
    completed: int
    goodput: float | None = None
    """Admissions per second within each client's deadline, over the whole storm."""
    offered_rate: float | None = None
    """Attempts per second of an open storm."""
    back_seconds: float | None = None
    """From the drop until all devices were admitted again."""
    most_back_seconds: float | None = None
    """The same for 99 % of them."""
    dropped: bool = False
    """Whether it was a storm of devices that were dropped."""
    admitted_each_second: tuple[float, ...] = ()
    in_flight_maximum: int = 0
    clients_busy: float = 0.0
    """CPUs that the clients used."""
    clients_late: float = 0.0
    """Longest delay of the start of an attempt: the clients were overloaded."""
    outcomes: tuple[tuple[str, int], ...] = ()

    @property
    def goodput_ratio(self) -> float | None:
        """Goodput relative to the closed-loop rate."""
        return None if self.goodput is None else self.goodput / self.closed_rate

    @property
    def offered_ratio(self) -> float | None:
        """Attempts offered relative to the closed-loop rate."""
        return None if self.offered_rate is None else self.offered_rate / self.closed_rate

    @property
    def work_seconds(self) -> float:
        """How long the admissions of all dropped devices take at the closed-loop rate."""
        return self.offered / self.closed_rate

    @property
    def back_ratio(self) -> float | None:
        """Time until all are back, relative to the work; infinite if some never were."""
        if not self.dropped:
            return None
        return float("inf") if self.back_seconds is None else self.back_seconds / self.work_seconds
