"""A commit under construction: commands for the script, and records and requests. Pure."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final

import msgspec

from services.approval.domain.records import (
    DISPLACED,
    PENDING,
    VERSION_CHARACTERS,
    AuditEntry,
    RequestNote,
    encode,
)
from services.approval.domain.text import one_line
from services.approval.storage.keys import (
    COMMIT_KEYS,
    LEFT_OUT,
    address_key,
    counter_key,
    device_key,
    refused_key,
    request_key,
    rule_uses_key,
    seen_key,
    turned_away_key,
)
from services.approval.storage.keys import PAIRED as PAIRED_INDEX
from services.approval.storage.keys import PENDING as PENDING_INDEX
from shared.addresses.holders import holders
from shared.rpc.messages import Changed, Position

if TYPE_CHECKING:
    from services.approval.domain.records import Pending, Record, VersionedRecord

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
REQUEST_KEPT_MS: Final = 86_400_000
"""How long the outcome of a request is kept."""
TURNED_AWAY_MS: Final = 30 * 86_400_000
"""How long a person's decision against a device keeps rules from approving it."""
PAIRED_LATER_MS: Final = 10**15
"""Added to the creation time in the index of an address: paired devices are displaced last."""
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
        self.keys = list(COMMIT_KEYS)
        """All keys, in the order of the script's KEYS."""
        self._places = {key: place for place, key in enumerate(COMMIT_KEYS, 1)}
        self._expects: list[tuple[int, str | int]] = []
        self._limits: list[tuple[int, int, str]] = []
        self._counted: dict[tuple[str, ...], None] = {}
        self._pending: dict[str, Any] | None = None
        self._writes: list[tuple[str, int, tuple[str | int, ...]]] = []
        self._changes: list[tuple[str, int, int, bool, _Counted | bool]] = []
        self.tags: list[str] = []
        """The tags of the changes, in order."""
        self._call: tuple[int, int, int] | None = None
        self._blobs: list[bytes] = []
        self.changes: list[Changed] = []
        self.not_after_ms = 0
        self.beyond = 0
        """Changes are numbered above this, even if the head is lower."""
        self.anew = False
        """Empty the change log first, to start a new history."""

    def expect(self, key: str, version: str | bytes) -> None:
        """Require that a record still has this version (empty: that there is none)."""
        encoded = self._blob(version) if isinstance(version, bytes) else version
        self._expects.append((self._place(key), encoded))

    def limit(self, key: str, size: int, member: str) -> None:
        """Require that a sorted set has fewer than `size` members or contains the member."""
        self._limits.append((self._place(key), size, member))

    def count_requests(self, limit_key: str) -> None:
        """Count the requests of an address, and of the networks around it, after all writes."""
        self._counted[holders(limit_key)] = None

    def make_room(
        self, device_id: str, limit_key: str, now_ms: int, *, total: int, per_address: int
    ) -> None:
        """Enforce the limits of pending requests: another one may be displaced by this one.

        The displacement is a change like the others, and its source is the newcomer's address.
        """
        self._pending = {
            "device": device_id,
            "path": holders(limit_key),
            "total": total,
            "per_address": per_address,
            "tag": secrets.token_hex(8),
            "counted": self._counted_entry(address_source(limit_key), now_ms),
            "version": secrets.token_hex(VERSION_CHARACTERS // 2),
            "at_ms": now_ms,
            "kept_ms": REQUEST_KEPT_MS,
        }

    @property
    def displaced_tag(self) -> str:
        """The tag of a displacement."""
        return str(self._pending["tag"]) if self._pending else ""

    def displaced(self, device_id: str, request_id: str) -> Changed:
        """Return the change of a request that gave way to the new one."""
        at_ms = int(self._pending["at_ms"]) if self._pending else 0
        return Changed(Position(), "", device_id, DISPLACED, at_ms, request_id=request_id)

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
        counted = self._counted_entry(source, entry.at_ms) if source else False
        self._add(change, entry, is_decision=source is None, counted=counted)

    def note(self, change: Changed, entry: AuditEntry) -> None:
        """Add a change that is not a decision but always gets an audit entry."""
        self._add(change, entry, is_decision=False, counted=False)

    def _add(
        self, change: Changed, entry: AuditEntry, *, is_decision: bool, counted: _Counted | bool
    ) -> None:
        tag = secrets.token_hex(8)
        self.changes.append(change)
        self.tags.append(tag)
        body, audited = self._blob(_encode(change)), self._blob(_encode_json(entry))
        self._changes.append((tag, body, audited, is_decision, counted))

    def _counted_entry(self, source: Source, at_ms: int) -> _Counted:
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

    def arguments(self) -> list[bytes]:
        """Return the script's arguments: the plan, and the byte strings it refers to."""
        plan: dict[str, Any] = {
            "not_after": self.not_after_ms,
            "beyond": self.beyond,
            "anew": self.anew,
            "expects": self._expects,
            "limits": self._limits,
            "counted": list(self._counted),
            "writes": self._writes,
            "changes": self._changes,
            "kept": (CHANGES_KEPT, AUDIT_KEPT, DECISIONS_KEPT),
            "unreadable": WRONG_TYPE,
        }
        if self._pending is not None:
            plan["pending"] = self._pending
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
            self.keys.append(key)
            place = self._places[key] = len(self.keys)
        return place


def index_request(
    plan: TransactionPlan, device_id: str, pending: Pending, ttl_ms: int, *, is_paired: bool
) -> None:
    """Add a request to the indexes until it expires."""
    created = pending.created_at_ms + (PAIRED_LATER_MS if is_paired else 0)
    plan.write("ZADD", PENDING_INDEX, pending.refreshed_at_ms + ttl_ms, device_id)
    plan.write("ZADD", address_key(pending.limit_key), created, device_id)
    plan.count_requests(pending.limit_key)


class Transaction:
    """A commit under construction, in terms of records and requests."""

    def __init__(self, actor: str, now_ms: int, *, call_id: str = "") -> None:
        self.plan = TransactionPlan()
        self.now_ms = now_ms
        self._actor = actor
        self._call_id = call_id

    def require(self, device_id: str, version: str | bytes) -> None:
        """Require that a record is unchanged since it was read."""
        self.plan.expect(device_key(device_id), version)

    def replace(self, held: VersionedRecord, record: Record | None, device_id: str) -> None:
        """Replace the record that was read; None deletes it."""
        key = device_key(device_id)
        self.plan.expect(key, held.version)
        if record is None:
            self.plan.write("DEL", key)
            self.plan.write("DEL", seen_key(device_id))
            self.plan.write("DEL", refused_key(device_id))
        else:
            self.plan.put(key, encode(record))
        if record is not None and record.pairing is not None:
            self.plan.write("ZADD", PAIRED_INDEX, record.pairing.approved_at_ms, device_id)
        else:
            self.plan.write("ZREM", PAIRED_INDEX, device_id)

    def keep_request(
        self, device_id: str, pending: Pending, ttl_ms: int, *, is_paired: bool
    ) -> None:
        """Add a request to the indexes until it expires."""
        index_request(self.plan, device_id, pending, ttl_ms, is_paired=is_paired)
        self._note(device_id, pending.request_id, PENDING, "", ttl_ms + REQUEST_KEPT_MS)

    def end_request(
        self, device_id: str, pending: Pending, state: str, successor: str = ""
    ) -> None:
        """Remove a request from the indexes, and keep its outcome for a day."""
        self.plan.write("ZREM", PENDING_INDEX, device_id)
        self.plan.write("ZREM", address_key(pending.limit_key), device_id)
        self.plan.count_requests(pending.limit_key)
        self._note(device_id, pending.request_id, state, successor, REQUEST_KEPT_MS)

    def turn_away(self, device_id: str) -> None:
        """Remember a person's decision against a device: no rule approves it for a while."""
        self.plan.write("SET", turned_away_key(device_id), "1", "PX", TURNED_AWAY_MS)

    def welcome(self, device_id: str) -> None:
        """Forget earlier decisions against a device, because a person approved it."""
        self.plan.write("DEL", turned_away_key(device_id))

    def use_rule(self, rule_id: str, count: int, request_id: str, device_id: str) -> None:
        """Count an approval by a rule, unless its count is used up or a person decided otherwise.

        The commit fails with `full` or, for the device's marker, with `conflict`.
        """
        key = rule_uses_key(rule_id)
        self.plan.limit(key, count, request_id)
        self.plan.expect(turned_away_key(device_id), "")
        self.plan.write("ZADD", key, self.now_ms, request_id)

    def forget_request(self, device_id: str) -> None:
        """Remove a device from the index of requests without knowing its request."""
        self.plan.write("ZREM", PENDING_INDEX, device_id)

    def change(
        self,
        kind: str,
        device_id: str,
        *,
        closes: list[str] | None = None,
        pending: Pending | None = None,
        superseded: str = "",
        role: str = "",
        scopes: tuple[str, ...] = (),
        label: str = "",
        request: bytes = b"",
        name: str = "",
        source: Source | None = None,
    ) -> None:
        """Add a change of a device, to log and publish.

        `request` is the new request, as JSON for clients. Without a `source` the change is a
        person's decision.
        """
        request_id = pending.request_id if pending else ""
        self.plan.change(
            Changed(
                change=Position(),
                previous_tag="",
                device_id=device_id,
                kind=kind,
                at_ms=self.now_ms,
                closes=closes or [],
                request_id=request_id,
                superseded_id=superseded,
                request=request,
                call_id=self._call_id,
            ),
            AuditEntry(
                action=kind,
                device_id=device_id,
                actor=self._actor,
                at_ms=self.now_ms,
                request_id=request_id,
                superseded_request_id=superseded,
                role=pending.role if pending else role,
                roles=pending.roles if pending else (),
                scopes=pending.scopes if pending else scopes,
                label=label,
                address=pending.metadata.address if pending else "",
                name=one_line(pending.metadata.display_name if pending else name),
            ),
            source,
        )

    def _note(
        self, device_id: str, request_id: str, state: str, successor: str, kept_ms: int
    ) -> None:
        note = RequestNote(device_id, state, self.now_ms, successor)
        self.plan.write("SET", request_key(request_id), encode(note), "PX", kept_ms)
