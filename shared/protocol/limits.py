"""Every limit of the protocol, with its unit."""

from __future__ import annotations

from typing import Final

PROTOCOLS: Final = (4, 3)
"""Supported protocol versions, preferred version first."""

PREAUTH_FRAME_LIMIT_BYTES: Final = 65_536
DEVICELESS_FRAME_LIMIT_BYTES: Final = 65_536
"""Maximum size of a message of an admitted client that presented no device."""
OWN_FRAME_LIMIT_BYTES: Final = 1_048_576
"""Maximum size of a message without an upstream: the longest valid call has a few kB."""
FRAME_LIMIT_BYTES: Final = 26_214_400
"""Maximum size of a message that is passed on to the upstream."""
EXPLAINED_LIMIT_BYTES: Final = 65_536
"""A malformed message that is longer gets a generic answer; finding its fault would take long."""
MESSAGE_DEADLINE_SECONDS: Final = 120.0
"""How long the rest of a message may take to arrive."""
BUFFERED_LIMIT_BYTES: Final = 52_428_800

HANDSHAKE_DEADLINE_SECONDS: Final = 15.0
CLOSING_SECONDS: Final = 1.0
"""How long to wait for the peer's close frame before dropping the transport."""
PING_SECONDS: Final = 25.0
TICK_SECONDS: Final = 30.0
TICK_INTERVAL_MS: Final = 30_000

QUEUED_FRAMES_LIMIT: Final = 15
"""How many frames a client may send before hello-ok."""
UNAUTHORIZED_CALLS_LIMIT: Final = 10
"""Consecutive calls outside the caller's role after which the socket is closed."""

SIGNED_AT_SKEW_MS: Final = 120_000
CLOSE_REASON_LIMIT_BYTES: Final = 120
DISPLAY_NAME_LIMIT_CHARACTERS: Final = 128
"""Longer display names are truncated, not refused, because they are only shown."""
TEXT_LIMIT_CHARACTERS: Final = 256
"""Maximum length of each short text in `connect` for which the protocol sets no limit."""
LIST_LIMIT_ITEMS: Final = 256
"""Maximum length of each list in `connect`, and of its permissions."""
SCOPES_LIMIT_ITEMS: Final = 64
"""Maximum number of scopes in one `connect` or one request; clients ask for six."""
SCOPE_LIMIT_CHARACTERS: Final = 64
"""Maximum length of a scope."""
SCOPES_HELD_LIMIT_ITEMS: Final = 254
"""Maximum number of scopes approved for one device: a token adds two implied scopes."""
PUBLIC_KEY_LIMIT_CHARACTERS: Final = 1_024
"""Maximum length of a public key as text; the longest valid form has about 120 characters."""
LABEL_LIMIT_CHARACTERS: Final = 64
