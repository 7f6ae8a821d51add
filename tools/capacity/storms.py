"""Measured storms: all devices are dropped at once, and reconnect as the reference client does.

Measured with `make capacity ARGS=--storms`, all services on one core and the clients on the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

FIRST_WAIT_SECONDS: Final = 1.0
"""The reference client first waits this long after it was dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """One storm. Times are in seconds from the drop; None: not reached."""

    devices: int
    gateways: int
    approvals: int
    rate: float
    """Admissions per second of the same services, with a fixed number of clients in flight."""
    half_seconds: float | None
    """Until 50 % were admitted again."""
    most_seconds: float | None
    """Until 99 % were."""
    all_seconds: float | None
    attempts: float
    """Per device, on average."""
    health_p99: float
    """Of `/livez` and `/readyz`, on new connections; infinite if more than 1 % failed."""
    gateway_mb: float
    """Most memory of a gateway, over what it used before any device was connected."""
    sessions: int
    lost: int
    """How many of the sessions that were held during the storm ended."""
    clients_late: float
    """Longest delay of an attempt, in seconds, because the clients had too little CPU."""
    others_cores: float
    """Cores that other programs used during the storm."""
    clients_cores: float
    """Cores that the clients used."""

    @property
    def work_seconds(self) -> float:
        """How long the admissions of all devices take at `rate`."""
        return self.devices / self.rate

    @property
    def ratio(self) -> float | None:
        """Time until all are back, relative to the work."""
        return None if self.all_seconds is None else self.all_seconds / self.work_seconds

    @property
    def stretch(self) -> float | None:
        """The same without the client's first wait."""
        if self.all_seconds is None:
            return None
        return (self.all_seconds - FIRST_WAIT_SECONDS) / self.work_seconds


def stretch_for(work_seconds: float, storms: Sequence[Storm]) -> float | None:
    """Return the largest stretch of the storms with less work, and of the next one with more.

    None if no storm has as much work, or one of these did not end.
    """
    largest = 0.0
    for storm in sorted(storms, key=lambda item: item.work_seconds):
        if storm.stretch is None:
            return None
        largest = max(largest, storm.stretch)
        if storm.work_seconds >= work_seconds:
            return largest
    return None


MEASURED_STORMS: Final[tuple[Storm, ...]] = (
    Storm(
        devices=1000,
        gateways=2,
        approvals=2,
        rate=2155,
        half_seconds=1.3,
        most_seconds=1.3,
        all_seconds=1.3,
        attempts=1.0,
        health_p99=0.12,
        gateway_mb=7,
        sessions=20,
        lost=0,
        clients_late=0.0,
        others_cores=1.46,
        clients_cores=0.1,
    ),
    Storm(
        devices=10000,
        gateways=2,
        approvals=2,
        rate=2129,
        half_seconds=3.5,
        most_seconds=4.8,
        all_seconds=4.8,
        attempts=1.0,
        health_p99=0.19,
        gateway_mb=26,
        sessions=20,
        lost=0,
        clients_late=0.8,
        others_cores=0.83,
        clients_cores=0.36,
    ),
    Storm(
        devices=20000,
        gateways=2,
        approvals=2,
        rate=2098,
        half_seconds=5.8,
        most_seconds=8.9,
        all_seconds=9.0,
        attempts=1.0,
        health_p99=0.18,
        gateway_mb=46,
        sessions=20,
        lost=0,
        clients_late=1.2,
        others_cores=0.61,
        clients_cores=0.42,
    ),
    Storm(
        devices=20000,
        gateways=2,
        approvals=2,
        rate=2139,
        half_seconds=6.1,
        most_seconds=14.9,
        all_seconds=15.0,
        attempts=1.12,
        health_p99=0.4,
        gateway_mb=46,
        sessions=20,
        lost=0,
        clients_late=1.2,
        others_cores=0.88,
        clients_cores=0.29,
    ),
    Storm(
        devices=50000,
        gateways=5,
        approvals=2,
        rate=2166,
        half_seconds=15.7,
        most_seconds=24.1,
        all_seconds=24.3,
        attempts=1.54,
        health_p99=1.22,
        gateway_mb=48,
        sessions=20,
        lost=0,
        clients_late=2.2,
        others_cores=0.96,
        clients_cores=0.46,
    ),
    Storm(
        devices=50000,
        gateways=5,
        approvals=2,
        rate=2058,
        half_seconds=17.6,
        most_seconds=31.2,
        all_seconds=34.1,
        attempts=1.69,
        health_p99=0.61,
        gateway_mb=46,
        sessions=20,
        lost=0,
        clients_late=2.2,
        others_cores=0.39,
        clients_cores=0.39,
    ),
    Storm(
        devices=100000,
        gateways=10,
        approvals=2,
        rate=2146,
        half_seconds=74.2,
        most_seconds=127.3,
        all_seconds=127.6,
        attempts=4.14,
        health_p99=1.18,
        gateway_mb=46,
        sessions=20,
        lost=0,
        clients_late=6.3,
        others_cores=0.89,
        clients_cores=0.45,
    ),
)
