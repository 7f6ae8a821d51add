"""Channel names. A boot id is random per process, so replicas never share a channel."""

from __future__ import annotations

import secrets
from functools import lru_cache
from typing import Final

EVENTS: Final = "latchkey:events"
"""All replicas listen: events about device changes and live approval replicas."""

_BOOT_ID_BYTES: Final = 16
_REMEMBERED_BOOT_IDS: Final = 256


def new_boot_id() -> str:
    """Generate 128 random bits as 32 hexadecimal characters."""
    return secrets.token_hex(_BOOT_ID_BYTES)


@lru_cache(_REMEMBERED_BOOT_IDS)
def ask_channel(boot_id: str) -> str:
    """Return the channel on which one approval replica receives questions."""
    return f"latchkey:ask:{boot_id}"


@lru_cache(_REMEMBERED_BOOT_IDS)
def inbox_channel(boot_id: str) -> str:
    """Return the channel on which one gateway replica receives answers."""
    return f"latchkey:inbox:{boot_id}"
