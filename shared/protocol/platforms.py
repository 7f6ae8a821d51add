"""Client platforms: the operating system, separate from its version."""

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
"""Per client id of a native app: its system, and the pattern of system and version."""

VERSIONED_CLIENTS: Final = frozenset(_APPS)
"""Client ids whose platform includes the version of the operating system."""

_RUNTIME_NAMES: Final = {"darwin": "macos", "win32": "windows"}
"""Runtime names of operating systems, and their common names."""

FAMILIES: Final = {"macos": "mac", "windows": "windows", "linux": "linux"}
"""Device families of desktop systems, by platform."""


def system_of(client_id: str, platform: str) -> str:
    """Return the operating system of a native app, without its version; empty for other clients.

    `platform` is normalised as for signatures.
    """
    system, written = _APPS.get(client_id, ("", None))
    return system if written is not None and written.fullmatch(platform) else ""


def common_name(platform: str) -> str:
    """Return the common name of a normalised platform."""
    return _RUNTIME_NAMES.get(platform, platform)
