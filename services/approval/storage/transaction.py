"""What one commit does, put together before it goes to Redis. Pure."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final

import msgspec

from services.approval.domain.records import VERSION_CHARACTERS
from services.approval.storage.keys import COMMIT_KEYS, LEFT_OUT, counter_key

if TYPE_CHECKING:
    from services.approval.domain.audit import AuditEntry
    from shared.rpc.messages import Changed

CHANGES_KEPT: Final = 10_000
"""Entries of the change log: a gateway further behind than this starts over."""
AUDIT_KEPT: Final = 100_000
"""Entries of the audit log."""
DECISIONS_KEPT: Final = 100_000
"""Entries for what people decided; nothing else displaces them."""
HOUR_MS: Final = 3_600_000
ADDRESS_ENTRIES_PER_HOUR: Final = 600
"""Entries that requests from one address get in an hour; further ones are only counted."""
DEVICE_ENTRIES_PER_HOUR: Final = 60
"""Entries that one device gets in an hour for what it does to itself; as above."""
COUNTED_KEPT_MS: Final = 25 * HOUR_MS
"""How long such a count is kept: a day after its hour, for a summary that comes late."""
CALLS_KEPT_MS: Final = 600_000
"""How long the answer to a call is kept, longer than any asker waits."""
WRONG_TYPE: Final = "(wrong type)"
"""The version of what is kept where a record should be and is of another type."""

_encode: Final = msgspec.msgpack.Encoder().encode
_encode_json: Final = msgspec.json.Encoder().encode


class Source(msgspec.Struct, frozen=True):
    """What causes a change without a person's decision; its entries are limited per hour."""

    name: str
    entries_per_hour: int


def address_source(limit_key: str) -> Source:
    """Return the source of what one client address causes."""
    return Source(f"address:{limit_key}", ADDRESS_ENTRIES_PER_HOUR)


def device_source(device_id: str) -> Source:
    """Return the source of what one paired device does to itself."""
    return Source(f"device:{device_id}", DEVICE_ENTRIES_PER_HOUR)


_Counted = tuple[int, int, int, int, str, int]


class TransactionPlan:
    """Collects what one commit does; keys are named once and referred to by their place."""

    def __init__(self) -> None:
        self._keys = list(COMMIT_KEYS)
        self._places = {key: place for place, key in enumerate(COMMIT_KEYS, 1)}
        self._expects: list[tuple[int, str | int]] = []
        self._limits: list[tuple[int, int, str]] = []
        self._writes: list[tuple[str, int, tuple[str | int, ...]]] = []
        self._changes: list[tuple[str, int, int, bool, _Counted | bool]] = []
        self._call: tuple[int, int, int] | None = None
        self._blobs: list[bytes] = []
        self.changes: list[Changed] = []
        self.not_after_ms = 0
        self.beyond = 0
        """The changes are numbered above this, wherever history stands."""
        self.anew = False
        """The change log is emptied first: a new history begins."""

    @property
    def keys(self) -> list[str]:
        """All keys, in the order the script finds them."""
        return self._keys

    def expect(self, key: str, version: str | bytes) -> None:
        """Demand that a record still has this version; empty: that there is none."""
        said = self._blob(version) if isinstance(version, bytes) else version
        self._expects.append((self._place(key), said))

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

    def change(self, change: Changed, entry: AuditEntry, source: Source | None = None) -> None:
        """Add a change to number, log and tell; the commit sets its number and tags.

        Without a `source` its entry counts as a person's decision.
        """
        tag = secrets.token_hex(8)
        self.changes.append(change)
        body, told = self._blob(_encode(change)), self._blob(_encode_json(entry))
        counted = self._counted(source, entry.at_ms) if source else False
        self._changes.append((tag, body, told, source is None, counted))

    def note(self, change: Changed, entry: AuditEntry) -> None:
        """Add a change that is no decision and always gets its entry."""
        tag = secrets.token_hex(8)
        self.changes.append(change)
        body, told = self._blob(_encode(change)), self._blob(_encode_json(entry))
        self._changes.append((tag, body, told, False, False))

    def _counted(self, source: Source, at_ms: int) -> _Counted:
        hour = at_ms // HOUR_MS
        return (
            self._place(counter_key(source.name, hour)),
            source.entries_per_hour,
            COUNTED_KEPT_MS,
            self._place(LEFT_OUT),
            f"{hour}:{source.name}",
            (hour + 1) * HOUR_MS,
        )

    def once(self, key: str, answer: bytes) -> None:
        """Do this at most once for a call id, and keep its answer."""
        self._call = (self._place(key), self._blob(answer), CALLS_KEPT_MS)

    @property
    def tags(self) -> list[str]:
        """The tags of the changes, in order."""
        return [change[0] for change in self._changes]

    def arguments(self) -> list[bytes]:
        """Return what the script reads: the plan, and the bytes it refers to by their place."""
        plan: dict[str, Any] = {
            "not_after": self.not_after_ms,
            "beyond": self.beyond,
            "anew": self.anew,
            "expects": self._expects,
            "limits": self._limits,
            "writes": self._writes,
            "changes": self._changes,
            "kept": (CHANGES_KEPT, AUDIT_KEPT, DECISIONS_KEPT),
            "unreadable": WRONG_TYPE,
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
