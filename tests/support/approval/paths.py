"""Paths of the HTTP API with ids that are valid and belong to nothing."""

from __future__ import annotations

from typing import Final

SAMPLES: Final = {
    "requestId": "r",
    "deviceId": "0" * 64,
    "role": "node",
    "credential": "shared-secret",
    "lockedAddress": "203.0.113.9",
    "operatorName": "nobody",
    "webhookName": "json-9",
    "ruleName": "none",
    "setupId": "nothing",
}
"""A value for each path parameter."""


def sample_path(path: str) -> str:
    """Return a path with its placeholders filled in."""
    return path.format_map(SAMPLES)
