"""Reads the Prometheus metrics of a service."""

from __future__ import annotations

import re


def metric(text: str, name: str) -> float | None:
    """Return the value of a metric with its labels; None if it is missing."""
    found = re.search(rf"(?m)^{re.escape(name)} (\S+)$", text)
    return float(found[1]) if found else None
