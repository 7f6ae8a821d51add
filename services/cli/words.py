"""What people read: scopes, kinds of clients, times and fingerprints in words. Pure."""

from __future__ import annotations

import unicodedata
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Final

SHOWN_CHARACTERS: Final = 128
"""How much of a text from elsewhere is shown at most."""

SCOPES: Final = {
    "operator.admin": "everything, approving other devices included",
    "operator.read": "see what goes on",
    "operator.write": "send messages and start work",
    "operator.approvals": "allow commands that agents want to run",
    "operator.questions": "answer what agents ask",
    "operator.pairing": "approve, rename and remove other devices",
    "operator.talk": "speak and listen",
    "operator.talk.secrets": "read the keys of the voice services",
}
UNKNOWN_SCOPE: Final = "unknown here: find out what it opens before you approve it"
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
    """Escape what could move the cursor, colour the terminal or turn the writing round."""
    return "".join(c if _harmless(c) else f"\\u{ord(c):04x}" for c in text)


def show_whole(*, whole: bool) -> None:
    """Set whether texts are shown whole from here on: programs read them, in a pipe or a file."""
    _whole.set(whole)


def beginning(text: str, characters: int) -> str:
    """Return a text from elsewhere, of which people need no more than so much."""
    return safe(text if _whole.get() else text[:characters])


def safe(text: str) -> str:
    """Escape a text from elsewhere, and cut it unless all of it is to be shown."""
    if _whole.get():
        return escaped(text)
    shown = escaped(text[:SHOWN_CHARACTERS])
    return shown + "…" if len(text) > SHOWN_CHARACTERS else shown


def _harmless(character: str) -> bool:
    return character.isprintable() and unicodedata.bidirectional(character) not in _RIGHT_TO_LEFT


def scope_in_words(scope: str) -> str:
    """Say what a scope allows."""
    return SCOPES.get(scope, UNKNOWN_SCOPE)


def is_powerful(scope: str) -> bool:
    """Say whether a scope gives power over other devices or the machine, or may do so."""
    return scope in POWERFUL or scope not in SCOPES


def kind_of(client_id: str, client_mode: str) -> str:
    """Say what sort of client this is, with its own words behind."""
    return f"{_KINDS.get(client_id, 'client')} ({safe(client_id)}, {safe(client_mode)})"


def replica_name(boot_id: str) -> str:
    """Return a boot id, cut to what tells replicas apart."""
    return beginning(boot_id, 12)


def fingerprint(device_id: str) -> str:
    """Return the first 64 bits of a device id, to compare by eye."""
    return " ".join(safe(device_id[at : at + 4]) for at in range(0, 16, 4))


def length(milliseconds: int) -> str:
    """Say how long something takes or took."""
    seconds = max(0, milliseconds) // 1000
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def ago(at_ms: int, now_ms: int) -> str:
    """Say how long ago something was."""
    return f"{length(now_ms - at_ms)} ago"


def moment(at_ms: int) -> str:
    """Say when something was, in UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
