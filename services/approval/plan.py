"""What one commit does, put together before it goes to Redis. Pure."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from shared.messages import Changed

CHANGES_KEPT: Final = 10_000
"""Entries of the change log: a gateway further behind than this starts over."""
AUDIT_KEPT: Final = 100_000
"""Entries of the audit log."""
CALLS_KEPT_MS: Final = 600_000
"""How long the answer to a call is kept, longer than any asker waits."""
VERSION_CHARACTERS: Final = 16

_encode: Final = msgspec.msgpack.Encoder().encode
_encode_json: Final = msgspec.json.Encoder().encode


class AuditEntry(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True):
    """Who did what, when; `id` is the change number, and where to go on reading."""

    action: str
    device_id: str
    actor: str
    at_ms: int
    request_id: str = ""
    superseded_request_id: str = ""
    role: str = ""
    roles: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    label: str = ""
    address: str = ""
    credential: str = ""
    id: int = 0


class Plan:
    """Collects what one commit does; keys are named once and referred to by their place."""

    def __init__(self, fixed_keys: tuple[str, ...]) -> None:
        self._keys = list(fixed_keys)
        self._places = {key: place for place, key in enumerate(fixed_keys, 1)}
        self._expects: list[tuple[int, str]] = []
        self._limits: list[tuple[int, int, str]] = []
        self._writes: list[tuple[str, int, tuple[str | int, ...]]] = []
        self._changes: list[tuple[str, int, int]] = []
        self._call: tuple[int, int, int] | None = None
        self._blobs: list[bytes] = []
        self.changes: list[Changed] = []
        self.not_after_ms = 0
        self.beyond = 0
        """The changes are numbered above this, wherever history stands: a new one begins."""

    @property
    def keys(self) -> list[str]:
        """All keys, in the order the script finds them."""
        return self._keys

    def expect(self, key: str, version: str) -> None:
        """Demand that a record still has this version; empty: that there is none."""
        self._expects.append((self._place(key), version))

    def limit(self, key: str, most: int, member: str) -> None:
        """Demand room in a sorted set, unless the member is in it."""
        self._limits.append((self._place(key), most, member))

    def write(self, command: str, key: str, *arguments: str | bytes | int) -> None:
        """Run a command on a key."""
        said = tuple(self._blob(one) if isinstance(one, bytes) else str(one) for one in arguments)
        self._writes.append((command, self._place(key), said))

    def put(self, key: str, value: bytes) -> None:
        """Write a record under a new version."""
        self.write("SET", key, secrets.token_hex(VERSION_CHARACTERS // 2).encode() + value)

    def change(self, change: Changed, entry: AuditEntry) -> None:
        """Add a change to number, log and tell; the commit sets its number and tags."""
        tag = secrets.token_hex(8)
        self.changes.append(change)
        self._changes.append((tag, self._blob(_encode(change)), self._blob(_encode_json(entry))))

    def once(self, key: str, answer: bytes) -> None:
        """Do this at most once for a call id, and keep its answer."""
        self._call = (self._place(key), self._blob(answer), CALLS_KEPT_MS)

    @property
    def tags(self) -> list[str]:
        """The tags of the changes, in order."""
        return [tag for tag, _body, _entry in self._changes]

    def arguments(self) -> list[bytes]:
        """Return what the script reads: the plan, and the bytes it refers to by their place."""
        plan: dict[str, Any] = {
            "not_after": self.not_after_ms,
            "beyond": self.beyond,
            "expects": self._expects,
            "limits": self._limits,
            "writes": self._writes,
            "changes": self._changes,
            "kept": (CHANGES_KEPT, AUDIT_KEPT),
        }
        if self._call is not None:
            plan["call"] = self._call
        return [_encode(plan), *self._blobs]

    def _blob(self, data: bytes) -> int:
        """Return the place of these bytes among the script's arguments."""
        self._blobs.append(data)
        return len(self._blobs) + 1

    def _place(self, key: str) -> int:
        place = self._places.get(key)
        if place is None:
            self._keys.append(key)
            place = self._places[key] = len(self._keys)
        return place
