"""Reads setup codes as clients do."""

from __future__ import annotations

import base64
import json
from typing import Any


def read_setup_code(text: str) -> dict[str, Any]:
    """Return the payload of a setup code, which has neither padding nor line breaks."""
    decoded = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    found: dict[str, Any] = json.loads(decoded)
    return found
