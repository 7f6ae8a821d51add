"""Metrics that record nothing."""

from __future__ import annotations

from collections import defaultdict


class NoMetrics:
    """Replaces a service's metrics, and each single one."""

    def __getattr__(self, _name: str) -> NoMetrics:
        return self

    @property
    def counts(self) -> defaultdict[str, int]:
        """Return counts that nobody reads."""
        return defaultdict(int)

    def labels(self, *_values: str) -> NoMetrics:
        """Do nothing."""
        return self

    def inc(self, _by: float = 1) -> None:
        """Do nothing."""

    def set(self, _to: float) -> None:
        """Do nothing."""

    def set_function(self, _read: object) -> None:
        """Do nothing."""

    def observe(self, _value: float) -> None:
        """Do nothing."""
