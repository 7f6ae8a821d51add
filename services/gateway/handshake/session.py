"""What an admitted connection is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(slots=True)
class Session:
    """What an admitted connection is: who, in which role, with which live scopes."""

    connection_id: str
    protocol: int
    role: str
    scopes: Sequence[str]
    device_id: str
    method: str
    address: str = ""
    """Where it comes from, behind whatever proxy."""
    epoch: str = ""
    """The span of its device's token that it was let in under; empty without a device."""
    unauthorized_calls: int = 0
    """Calls outside its role, one after another."""
