"""Plan of one commit, built before it is sent to Redis. Pure."""

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
"""Length of the change log; a gateway further behind than this resyncs."""
AUDIT_KEPT: Final = 100_000
"""Length of the audit log's stream."""
DECISIONS_KEPT: Final = 100_000
"""Number of decisions kept; other entries do not displace them."""
HOUR_MS: Final = 3_600_000
ADDRESS_ENTRIES_PER_HOUR: Final = 600
"""Max. audit entries per hour for requests from one address; further ones are only counted."""
DEVICE_ENTRIES_PER_HOUR: Final = 60
"""Max. audit entries per hour for a device's changes to itself; further ones are only counted."""
COUNTED_KEPT_MS: Final = 25 * HOUR_MS
"""How long such a count is kept: a day beyond its hour, for late summaries."""
CALLS_KEPT_MS: Final = 600_000
"""How long the answer to a call is kept; longer than any caller waits."""
WRONG_TYPE: Final = "(wrong type)"
"""Version of a record key that has a wrong type."""

_encode: Final = msgspec.msgpack.Encoder().encode
_encode_json: Final = msgspec.json.Encoder().encode


class Source(msgspec.Struct, frozen=True):
    """Cause of a change without a person's decision; its audit entries are limited per hour."""

    name: str
    entries_per_hour: int


def address_source(limit_key: str) -> Source:
    """Return the source for changes caused by a client address."""
    return Source(f"address:{limit_key}", ADDRESS_ENTRIES_PER_HOUR)


def device_source(device_id: str) -> Source:
    """Return the source for a paired device's changes to itself."""
    return Source(f"device:{device_id}", DEVICE_ENTRIES_PER_HOUR)


_Counted = tuple[int, int, int, int, str, int]


class TransactionPlan:
    """Collects the operations of one commit, in which keys are referred to by index."""

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
        """Changes are numbered above this, even if the head is lower."""
        self.anew = False
        """Empty the change log first, to start a new history."""

    @property
    def keys(self) -> list[str]:
        """All keys, in the order of the script's KEYS."""
        return self._keys

    def expect(self, key: str, version: str | bytes) -> None:
        """Require that a record still has this version (empty: that there is none)."""
        encoded = self._blob(version) if isinstance(version, bytes) else version
        self._expects.append((self._place(key), encoded))

    def limit(self, key: str, size: int, member: str) -> None:
        """Require that a sorted set has fewer than `size` members or contains the member."""
        self._limits.append((self._place(key), size, member))

    def write(self, command: str, key: str, *arguments: str | bytes | int) -> None:
        """Run a command on a key."""
        encoded = tuple(
            self._blob(one) if isinstance(one, bytes) else str(one) for one in arguments
        )
        self._writes.append((command, self._place(key), encoded))

    def put(self, key: str, value: bytes) -> None:
        """Write a record under a new version."""
        self.write("SET", key, secrets.token_hex(VERSION_CHARACTERS // 2).encode() + value)

    def change(self, change: Changed, entry: AuditEntry, source: Source | None = None) -> None:
        """Add a change to log and publish; the commit sets its number and tags.

        Without a `source`, its entry counts as a person's decision.
        """
        tag = secrets.token_hex(8)
        self.changes.append(change)
        body, audited = self._blob(_encode(change)), self._blob(_encode_json(entry))
        counted = self._counted(source, entry.at_ms) if source else False
        self._changes.append((tag, body, audited, source is None, counted))

    def note(self, change: Changed, entry: AuditEntry) -> None:
        """Add a change that is not a decision but always gets an audit entry."""
        tag = secrets.token_hex(8)
        self.changes.append(change)
        body, audited = self._blob(_encode(change)), self._blob(_encode_json(entry))
        self._changes.append((tag, body, audited, False, False))

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
        """Carry out the plan at most once for a call id, and store its answer."""
        self._call = (self._place(key), self._blob(answer), CALLS_KEPT_MS)

    @property
    def tags(self) -> list[str]:
        """The tags of the changes, in order."""
        return [change[0] for change in self._changes]

    def arguments(self) -> list[bytes]:
        """Return the script's arguments: the plan, and the byte strings it refers to."""
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
        """Add a byte string; return its index among the script's arguments."""
        self._blobs.append(data)
        return len(self._blobs) + 1

    def _place(self, key: str) -> int:
        place = self._places.get(key)
        if place is None:
            self._keys.append(key)
            place = self._places[key] = len(self._keys)
        return place
