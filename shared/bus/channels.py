"""The channels' names. A boot id is random per process, so that no two replicas share a channel."""

from __future__ import annotations

import secrets
from typing import Final

NEWS: Final = "latchkey:news"
"""Everybody listens: devices changed, approval replicas alive."""

_BOOT_ID_BYTES: Final = 16


def new_boot_id() -> str:
    """Draw 128 random bits, as 32 hexadecimal characters."""
    return secrets.token_hex(_BOOT_ID_BYTES)


def ask_channel(boot_id: str) -> str:
    """Where one approval replica listens for questions."""
    return f"latchkey:ask:{boot_id}"


def inbox_channel(boot_id: str) -> str:
    """Where one gateway replica listens for answers."""
    return f"latchkey:inbox:{boot_id}"
