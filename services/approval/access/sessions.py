"""Signs and reads the session cookies of operators (decision 12 in docs/decisions). Pure.

A cookie contains a random session id and the session's end, signed with the admin token it was
opened with, so removing that value from APPROVAL_ADMIN_TOKEN ends its sessions. Redis stores only
the id, which is not sufficient to sign in.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

LIFE_MS: Final = 8 * 3_600_000
"""A working day; after that the operator has to sign in again, even if active."""
COOKIE: Final = "latchkey_session"
COOKIE_PATH: Final = ""
"""Without a path, the browser uses the directory of the call that set the cookie: `/v1`, below any
prefix that a proxy adds. The cookie is sent only to the API; the page itself is public."""

_FORM: Final = re.compile(r"([1-9][0-9]{0,15})\.([0-9a-f]{32})\.([0-9a-f]{64})", re.ASCII)
_PURPOSE: Final = b"latchkey session 1\0"


@dataclass(frozen=True, slots=True)
class Session:
    """A signed-in browser; `expires_at_ms` refers to the store's clock."""

    id: str
    expires_at_ms: int


def sign(session: Session, admin_token: str) -> str:
    """Return the cookie's value for a session opened with this token."""
    return f"{session.expires_at_ms}.{session.id}.{_mac(session, admin_token)}"


def read(cookie: str, admin_tokens: Iterable[str], now_ms: int) -> Session | None:
    """Return the session of a cookie; None if it is forged, expired or its token was removed."""
    found = _FORM.fullmatch(cookie)
    if found is None:
        return None
    expires, session_id, mac = found.groups()
    session = Session(session_id, int(expires))
    sound = False
    for token in admin_tokens:
        sound |= hmac.compare_digest(_mac(session, token), mac)
    return session if sound and now_ms < session.expires_at_ms else None


def _mac(session: Session, admin_token: str) -> str:
    text = _PURPOSE + f"{session.expires_at_ms}.{session.id}".encode()
    return hmac.new(admin_token.encode(), text, hashlib.sha256).hexdigest()
