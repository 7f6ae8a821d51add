"""The part of commit.lua that makes room for a new request: pending.lua in Python."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from services.approval.domain.audit import AuditEntry
from services.approval.domain.records import DISPLACED, Record, RequestNote, decode_record, encode
from services.approval.storage.keys import PENDING_NAMES, address_key, device_key, within_key
from shared.rpc.messages import Changed, Position

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.approval.domain.records import Pending
    from tests.simulation.database import Database, Word

CORRECTIONS: Final = 100
LIST, HOLDERS, REINDEX = (PENDING_NAMES[name] for name in ("list", "holders", "reindex"))


@dataclass
class Displaced:
    """A request that gives way, and the path to its address."""

    device_id: str
    path: list[str]
    record: Record
    pending: Pending


class Room:
    """What a commit does for its new request, if it has one, to keep to the limits."""

    def __init__(self, data: Database, plan: dict[str, Any]) -> None:
        self._data = data
        self._plan = plan
        self._new: dict[str, Any] = plan.get("pending", {})
        self.full = False
        self._found = self._find() if self._new else None

    @property
    def displaced(self) -> list[bytes] | None:
        """Return the request that gives way, for the reply."""
        found = self._found
        return [found.device_id.encode(), found.pending.request_id.encode()] if found else None

    def add_change(self, args: Sequence[Word]) -> Sequence[Word]:
        """Add the displacement to the plan's changes; returns the arguments with its bytes."""
        if self._found is None:
            return args
        args = [*args, *_encoded_change(self._found, self._new["at_ms"])]
        counted = self._new["counted"]
        change = (self._new["tag"], len(args) - 1, len(args), False, counted)
        self._plan["changes"].insert(0, change)
        return args
