"""The session of an admitted connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(slots=True)
class Session:
    """An admitted client: its identity, role and granted scopes."""

    connection_id: str
    protocol: int
    role: str
    scopes: Sequence[str]
    device_id: str
    method: str
    address: str = ""
    """The client's own address, as reported by trusted proxies."""
    epoch: str = ""
    """The generation of the device token it was admitted with; "" without a device."""
    unauthorized_calls: int = 0
    """The number of consecutive calls outside its role."""
