"""Metrics that count nothing: whatever is done to them, they are still there."""

from __future__ import annotations

from typing import Any


class NoMetrics:
    """Stands for a service's metrics, and for each of them."""

    def __getattr__(self, _name: str) -> NoMetrics:
        return self

    def __call__(self, *_given: Any, **_options: Any) -> NoMetrics:
        """Do nothing."""
        return self
