"""Scopes, client kinds, times and fingerprints as text for people. Pure."""

from __future__ import annotations

import unicodedata
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Final

SHOWN_CHARACTERS: Final = 128
"""Maximum length at which text from clients is shown."""

SCOPES: Final = {
    "operator.admin": "everything, including approving other devices",
    "operator.read": "view activity",
    "operator.write": "send messages and start work",
    "operator.approvals": "approve commands that agents want to run",
    "operator.questions": "answer questions from agents",
    "operator.pairing": "approve, rename and remove other devices",
    "operator.talk": "speak and listen",
    "operator.talk.secrets": "read the API keys of voice services",
}
UNKNOWN_SCOPE: Final = "unknown to Latchkey: find out what it allows before you approve it"
POWERFUL: Final = frozenset(
    {"operator.admin", "operator.approvals", "operator.pairing", "operator.talk.secrets"}
)
_KINDS: Final = {
    "openclaw-control-ui": "dashboard in a browser",
    "openclaw-browser-copilot": "copilot in a browser",
    "openclaw-tui": "terminal interface",
    "webchat": "chat in a browser",
    "webchat-ui": "chat in a browser",
    "cli": "command line",
    "gateway-client": "program",
    "node-host": "node",
    "openclaw-macos": "app on a Mac",
    "openclaw-linux": "app on Linux",
    "openclaw-ios": "app on an iPhone or iPad",
    "openclaw-watchos": "app on a watch",
    "openclaw-android": "app on Android",
    "openclaw-probe": "probe",
}
_RIGHT_TO_LEFT: Final = frozenset(
    {"R", "AL", "AN", "RLE", "RLO", "RLI", "LRE", "LRO", "LRI", "FSI", "PDI", "PDF"}
)
_whole: Final = ContextVar("whole", default=False)
_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"))


def escaped(text: str) -> str:
    """Escape control characters, escape sequences and right-to-left text."""
    return "".join(c if _harmless(c) else f"\\u{ord(c):04x}" for c in text)


def show_whole(*, whole: bool) -> None:
    """Set whether text is shown in full, as for programs that read a pipe or file."""
    _whole.set(whole)


def beginning(text: str, characters: int) -> str:
    """Return the beginning of a client's text, escaped; all of it if shown in full."""
    return safe(text if _whole.get() else text[:characters])


def safe(text: str) -> str:
    """Escape text from a client, and truncate it unless shown in full."""
    if _whole.get():
        return escaped(text)
    shown = escaped(text[:SHOWN_CHARACTERS])
    return shown + "…" if len(text) > SHOWN_CHARACTERS else shown


def _harmless(character: str) -> bool:
    return character.isprintable() and unicodedata.bidirectional(character) not in _RIGHT_TO_LEFT


def scope_in_words(scope: str) -> str:
    """Return a description of what a scope allows."""
    return SCOPES.get(scope, UNKNOWN_SCOPE)


def is_powerful(scope: str) -> bool:
    """Return whether a scope gives control over other devices or the machine, or may."""
    return scope in POWERFUL or scope not in SCOPES


def kind_of(client_id: str, client_mode: str) -> str:
    """Return a description of a client's kind, followed by its id and mode."""
    return f"{_KINDS.get(client_id, 'client')} ({safe(client_id)}, {safe(client_mode)})"


def replica_name(boot_id: str) -> str:
    """Return a boot id, shortened to what distinguishes replicas."""
    return beginning(boot_id, 12)


def fingerprint(device_id: str) -> str:
    """Return the first 64 bits of a device id, for visual comparison."""
    return " ".join(safe(device_id[at : at + 4]) for at in range(0, 16, 4))


def length(milliseconds: int) -> str:
    """Format a duration."""
    seconds = max(0, milliseconds) // 1000
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def ago(at_ms: int, now_ms: int) -> str:
    """Format how long ago something was."""
    return f"{length(now_ms - at_ms)} ago"


def moment(at_ms: int) -> str:
    """Format a time in UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
