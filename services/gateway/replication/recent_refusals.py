"""Recently refused clients and the reasons, bounded and reported with the heartbeat. Pure.

They tell operators why a device cannot connect. A client with a valid device proof has its own
entry, separate from clients that only claim the device id, so that others cannot overwrite the
refusals of the real device. Clients without a device share one entry per address and reason.

An entry is kept until a heartbeat that reported it is answered. Reports are idempotent.
"""

from __future__ import annotations

import re
from itertools import count, islice
from typing import TYPE_CHECKING, Final

from shared.addresses.client import limit_key
from shared.protocol.connect import DOCTOR_NAME
from shared.protocol.refusals import JOINING
from shared.rpc.reports import RefusalReport

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from services.gateway.handshake.handshake import Handshake
    from services.gateway.handshake.outcome import RequestInfo
    from shared.protocol.refusals import Refusal

REFUSALS_LIMIT_ENTRIES: Final = 2_000
"""The most unreported entries; beyond it, the address with the most loses its oldest."""
REFUSALS_PER_ADDRESS_ENTRIES: Final = 32
"""The most entries of one address (IPv6: one /64); beyond it, its oldest is dropped."""
REFUSALS_PER_BEAT_ENTRIES: Final = 50
"""The most entries that one heartbeat reports; the rest wait for the next regular one."""
REPORTED_LIMIT_HEARTBEATS: Final = 64
"""How many heartbeats are remembered with what they reported."""
DETAIL_LIMIT_CHARACTERS: Final = 128
NAME_LIMIT_CHARACTERS: Final = 64

UNDECIDED: Final = frozenset({"unavailable", "upstream"})
"""Outcomes that say nothing about the device."""
_WITHOUT_SECRET: Final = frozenset(
    {"token-missing", "device-required", "control-ui-device-required"}
)
"""Outcomes of clients that present nothing to verify."""
_DEVICE_ID: Final = re.compile(r"[0-9a-f]{64}")
_ORIGIN: Final = re.compile(r"null|[a-z][a-z0-9+.-]*://[A-Za-z0-9.:\[\]-]+")
_Key = tuple[str, bool | None]


class _Entry:
    """Consecutive attempts of one client that were refused for the same reason."""

    __slots__ = (
        "address",
        "at",
        "client_id",
        "confirmed",
        "count",
        "detail",
        "device_id",
        "display_name",
        "first_at",
        "number",
        "proven",
        "reason",
        "undecided",
    )

    def __init__(
        self, number: int, reason: str, device_id: str, at: float, *, proven: bool
    ) -> None:
        self.number = number
        self.reason = reason
        self.device_id = device_id
        self.proven = proven
        self.first_at = at
        self.count = 0
        self.confirmed = 0
        """How many of these attempts an answered heartbeat has reported."""
        self.undecided = False
        self.at = at
        self.address = ""
        self.client_id = ""
        self.display_name = ""
        self.detail = ""

    def report(self, now: float) -> RefusalReport:
        """Return the entry as reported in a heartbeat."""
        return RefusalReport(
            reason=self.reason,
            undecided=self.undecided,
            device_id=self.device_id,
            proven=self.proven,
            address=self.address,
            number=self.number,
            count=self.count,
            confirmed=self.confirmed,
            age_ms=max(0, round((now - self.at) * 1000)),
            first_age_ms=max(0, round((now - self.first_at) * 1000)),
            client_id=self.client_id,
            display_name=self.display_name,
            detail=self.detail,
        )


class RecentRefusals:
    """Refusals that approval does not know of yet."""

    def __init__(
        self,
        *,
        limit: int = REFUSALS_LIMIT_ENTRIES,
        per_address: int = REFUSALS_PER_ADDRESS_ENTRIES,
        per_beat: int = REFUSALS_PER_BEAT_ENTRIES,
    ) -> None:
        self._limit = limit
        self._per_address = per_address
        self._per_beat = per_beat
        self._numbers = count(1)
        self._size = 0
        self._entries: dict[str, dict[_Key, _Entry]] = {}
        """By address; the entries of each are in the order of their last attempts."""
        self._holders: list[dict[str, None]] = [{} for _ in range(per_address + 1)]
        """The addresses by their number of entries: index n holds those with n entries."""
        self._reported: dict[int, list[tuple[str, _Key, _Entry, int]]] = {}

    def __len__(self) -> int:
        return self._size

    def note(self, handshake: Handshake, peer: RequestInfo, refusal: Refusal, at: float) -> None:
        """Record that a client was refused; `at` is in monotonic seconds."""
        if refusal.outcome == JOINING:
            return  # it is admitted, and will be connected at its next attempt
        if _is_check(handshake, refusal):
            return
        device_id = handshake.device_id
        if device_id and not _DEVICE_ID.fullmatch(device_id):
            device_id = ""
        proven = bool(device_id) and handshake.proven
        reason, detail = _reason(refusal, peer, proven=proven)
        address = limit_key(peer.address)
        held = self._entries.get(address)
        if held is None:
            held = self._entries[address] = {}
        key: _Key = (device_id, proven) if device_id else (reason, None)
        entry = found = held.pop(key, None)
        if entry is None or entry.reason != reason:
            entry = _Entry(next(self._numbers), reason, device_id, at, proven=proven)
        client = handshake.client
        entry.at = at
        entry.count += 1
        entry.undecided = refusal.outcome in UNDECIDED
        entry.address = peer.address
        entry.detail = detail[:DETAIL_LIMIT_CHARACTERS]
        entry.client_id = client.id if client else ""
        entry.display_name = client.display_name[:NAME_LIMIT_CHARACTERS] if client else ""
        held[key] = entry
        if found is None:
            self._on_added(address, held)

    def report(self, heartbeat_id: int, now: float) -> list[RefusalReport]:
        """Return what this heartbeat reports, round-robin over addresses, each oldest first."""
        chosen = [
            (address, key, entry, entry.count)
            for address, key, entry in islice(self._round_robin(), self._per_beat)
        ]
        if chosen:
            self._reported[heartbeat_id] = chosen
            if len(self._reported) > REPORTED_LIMIT_HEARTBEATS:
                del self._reported[next(iter(self._reported))]
        return [entry.report(now) for _address, _key, entry, _count in chosen]

    def answered(self, heartbeat_id: int) -> None:
        """Drop what an answered heartbeat reported, except entries with newer attempts."""
        for address, key, entry, reported_count in self._reported.pop(heartbeat_id, ()):
            entry.confirmed = max(entry.confirmed, reported_count)
            held = self._entries.get(address)
            if entry.confirmed == entry.count and held and held.get(key) is entry:
                del held[key]
                self._on_removed(address, held)
        for older in [heartbeat for heartbeat in self._reported if heartbeat < heartbeat_id]:
            del self._reported[older]

    def _round_robin(self) -> Iterator[tuple[str, _Key, _Entry]]:
        rows: Iterable[tuple[str, Iterator[tuple[_Key, _Entry]]]] = (
            (address, iter(held.items())) for address, held in self._entries.items()
        )
        while True:
            left = []
            for address, row in rows:
                found = next(row, None)
                if found is not None:
                    yield address, *found
                    left.append((address, row))
            if not left:
                return
            rows = left

    def _on_added(self, address: str, held: dict[_Key, _Entry]) -> None:
        """Account for a new entry of an address, and evict an entry if a limit is exceeded."""
        if len(held) > self._per_address:
            del held[next(iter(held))]
            return
        self._size += 1
        self._holders[len(held) - 1].pop(address, None)
        self._holders[len(held)][address] = None
        if self._size > self._limit:
            addresses = next(filter(None, reversed(self._holders)))
            largest = next(iter(addresses))
            entries = self._entries[largest]
            del entries[next(iter(entries))]
            self._on_removed(largest, entries)

    def _on_removed(self, address: str, held: dict[_Key, _Entry]) -> None:
        """Account for a removed entry of an address."""
        self._size -= 1
        self._holders[len(held) + 1].pop(address, None)
        if held:
            self._holders[len(held)][address] = None
        else:
            del self._entries[address]


def _is_check(handshake: Handshake, refusal: Refusal) -> bool:
    """Return whether `latchkey doctor` makes this attempt in order to be refused.

    Anybody may take that name, so a wrong secret or proof is recorded nevertheless.
    """
    client = handshake.client
    return (
        client is not None
        and client.display_name == DOCTOR_NAME
        and refusal.outcome in _WITHOUT_SECRET
    )


def _reason(refusal: Refusal, peer: RequestInfo, *, proven: bool) -> tuple[str, str]:
    """Return the reason code of a refusal and a detail that helps to find its cause."""
    outcome = refusal.outcome
    details = (refusal.error.details if refusal.error else None) or {}
    if outcome == "pairing-required":
        return details["reason"], details["requestId"]
    if outcome == "unavailable":
        return details["reason"], details["dependency"]
    if outcome == "device-id-mismatch" and proven:
        return "key-mismatch", ""
    fact = ""
    if outcome == "origin":
        fact = peer.origin if peer.origin and _ORIGIN.fullmatch(peer.origin) else ""
    elif outcome == "protocol-mismatch":
        fact = f"{details['clientMinProtocol']} to {details['clientMaxProtocol']}"
    elif outcome == "invalid-params":
        fact = refusal.close_reason.partition(": ")[2]
    return outcome, fact
