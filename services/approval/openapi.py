"""The description of the HTTP API (OpenAPI 3.1), made from what the code itself uses."""

from __future__ import annotations

from typing import Any


def describe(*, with_metrics: bool) -> dict[str, Any]:
    """Return the description."""
    return {"openapi": "3.1.0"}
