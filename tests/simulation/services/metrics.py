"""Metrics that record nothing."""

from __future__ import annotations


class NoMetrics:
    """Replaces a service's metrics, and each single one."""

    def __getattr__(self, _name: str) -> NoMetrics:
        return self

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
