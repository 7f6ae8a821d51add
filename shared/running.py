"""Finds the services that `make run` started, through `run.env` in its data directory.

The runner holds a lock on that file while it runs. A file that can be locked was left by a run that
was killed, and is ignored.
"""

from __future__ import annotations

import fcntl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

RUN_FILE: Final = "run.env"
SECRETS_FILE: Final = Path(".data/secrets.env")
"""Where `make run` stores its secrets unless DATA_DIR names another directory."""
INSTALLATION: Final = Path(__file__).resolve().parents[1]
_PORTS: Final = {"ws": 80, "wss": 443, "http": 80, "https": 443}
_SAME: Final = {"ws": "http", "wss": "https"}


@dataclass(frozen=True, slots=True)
class Running:
    """The addresses of a run: its gateways, approval's API and the approval page."""

    gateway_url: str
    approval_url: str
    approval_public_url: str

    @property
    def approval_page(self) -> str:
        """The page on which people approve devices."""
        return f"{self.approval_public_url}/setup"

    def is_gateway(self, url: str) -> bool:
        """Return whether an address belongs to the run's gateways."""
        return _endpoint(url) == _endpoint(self.gateway_url)


def default_secrets_file(environ: Mapping[str, str]) -> Path:
    """Return the expected secrets file of a run: here, else in this installation."""
    data = environ.get("DATA_DIR", "").strip()
    if data:
        return Path(data) / SECRETS_FILE.name
    here = SECRETS_FILE.exists() or SECRETS_FILE.with_name(RUN_FILE).exists()
    return SECRETS_FILE if here else INSTALLATION / SECRETS_FILE


def find_run(secrets_file: Path) -> Running | None:
    """Return the run whose secrets are in this file; None if it is not running."""
    try:
        with secrets_file.with_name(RUN_FILE).open() as file:
            if _is_left_over(file.fileno()):
                return None
            found = dict(_lines(file.read()))
    except (OSError, UnicodeDecodeError):
        return None
    running = Running(
        gateway_url=found.get("GATEWAY_URL", ""),
        approval_url=found.get("APPROVAL_URL", ""),
        approval_public_url=found.get("APPROVAL_PUBLIC_URL", ""),
    )
    addresses = running.gateway_url, running.approval_url, running.approval_public_url
    return running if all(map(_endpoint, addresses)) else None


def _is_left_over(descriptor: int) -> bool:
    """Return whether the lock is free. A shared lock is tried, so readers do not collide."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lines(text: str) -> list[tuple[str, str]]:
    pairs = (line.partition("=") for line in text.splitlines() if not line.startswith("#"))
    return [(name.strip(), value.strip()) for name, _, value in pairs]


def _endpoint(url: str) -> tuple[str, str, int] | None:
    """Return scheme (as for HTTP), host and port; None for an invalid address."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return None
    if port is None or not parts.hostname:
        return None
    host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname
    return _SAME.get(parts.scheme, parts.scheme), host, port
