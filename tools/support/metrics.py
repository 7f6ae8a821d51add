"""Reading what a service exports to Prometheus."""

from __future__ import annotations

import re


def metric(text: str, name: str) -> float | None:
    """Return the value of a metric, named with its labels; None where it is not there."""
    found = re.search(rf"(?m)^{re.escape(name)} (\S+)$", text)
    return float(found[1]) if found else None
