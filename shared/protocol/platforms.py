"""What a client's platform says: which system it is, apart from that system's version."""

from __future__ import annotations

import re
from typing import Final

_RELEASE: Final = r"[0-9]+(?:\.[0-9]+){0,2}"
_APPS: Final = {
    "openclaw-ios": ("ios", re.compile(r"(?:ios|ipados)(?:\s.*)?", re.DOTALL)),
    "openclaw-android": ("android", re.compile(r"android(?:\s.*)?", re.DOTALL)),
    "openclaw-watchos": ("watchos", re.compile(rf"watchos {_RELEASE}")),
    "openclaw-macos": ("macos", re.compile(rf"macos {_RELEASE}")),
}
"""By client id of a native app: its system, and how it writes that with its version."""

VERSIONED_CLIENTS: Final = frozenset(_APPS)
"""Client ids whose platform carries the version of the operating system."""

_RUNTIME_NAMES: Final = {"darwin": "macos", "win32": "windows"}
"""Names by which a runtime knows its system, and what that is called elsewhere."""

FAMILIES: Final = {"macos": "mac", "windows": "windows", "linux": "linux"}
"""Device families of desktop systems, by platform."""


def system_of(client_id: str, platform: str) -> str:
    """Return the system that a native app runs on, without its version; empty if it is no such.

    `platform` is normalised, as for signatures.
    """
    system, written = _APPS.get(client_id, ("", None))
    return system if written is not None and written.fullmatch(platform) else ""


def common_name(platform: str) -> str:
    """Return a normalised platform under the name that all clients know it by."""
    return _RUNTIME_NAMES.get(platform, platform)
