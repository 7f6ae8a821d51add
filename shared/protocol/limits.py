"""Every bound of the wire, with its unit (contract §1, §2, §7)."""

from __future__ import annotations

from typing import Final

PROTOCOLS: Final = (4, 3)
"""Served protocols, best first."""

PREAUTH_FRAME_LIMIT_BYTES: Final = 65_536
FRAME_LIMIT_BYTES: Final = 26_214_400
BUFFERED_LIMIT_BYTES: Final = 52_428_800

HANDSHAKE_DEADLINE_SECONDS: Final = 15.0
CLOSING_SECONDS: Final = 1.0
"""How long a peer may take to answer our close frame before its transport is dropped."""
PING_SECONDS: Final = 25.0
TICK_SECONDS: Final = 30.0
TICK_INTERVAL_MS: Final = 30_000

QUEUED_FRAMES_LIMIT: Final = 15
"""Frames a client may send ahead of hello-ok."""
UNAUTHORIZED_CALLS_LIMIT: Final = 10
"""Consecutive calls outside the caller's role before the socket is closed."""

SIGNED_AT_SKEW_MS: Final = 120_000
CLOSE_REASON_LIMIT_BYTES: Final = 120
DISPLAY_NAME_LIMIT_CHARACTERS: Final = 128
"""A longer display name is cut, not refused: it is only shown."""
TEXT_LIMIT_CHARACTERS: Final = 256
"""Cap on each short text of `connect` that the contract leaves open."""
LIST_LIMIT_ITEMS: Final = 256
"""Cap on each list of `connect`, and on its permissions."""
SCOPES_LIMIT_ITEMS: Final = 64
"""Cap on the scopes that one `connect`, or one request, asks for; clients ask for six."""
SCOPE_LIMIT_CHARACTERS: Final = 64
"""Cap on the length of a scope."""
SCOPES_HELD_LIMIT_ITEMS: Final = 254
"""Cap on what is approved for one device: a token adds two that follow from others."""
PUBLIC_KEY_LIMIT_CHARACTERS: Final = 1_024
"""Cap on a public key as text; the longest form of one has some 120."""
LABEL_LIMIT_CHARACTERS: Final = 64
