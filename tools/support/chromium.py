"""Finds the browser for tests and for interop."""

from __future__ import annotations

import os
import shutil
from typing import Final

NAMES: Final = ("chromium", "chromium-browser", "google-chrome")


def find_chromium() -> str | None:
    """Return the browser named by CHROMIUM, or the first on PATH."""
    named = os.environ.get("CHROMIUM", "").strip()
    return shutil.which(named) if named else next(filter(None, map(shutil.which, NAMES)), None)
