"""Signs and reads the session cookies of operators (decision 12 in docs/decisions). Pure.

A cookie contains a random session id and the session's end, signed with the admin token it was
opened with, so removing that value from APPROVAL_ADMIN_TOKEN ends its sessions. The cookie of a
named operator also contains the operator's name and is signed with TOKEN_SECRET, because the
operator's token is not stored; its session ends with the operator. Redis stores only the id, which
is not sufficient to sign in.
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

_FORM: Final = re.compile(
    r"([1-9][0-9]{0,15})\.([0-9a-f]{32})\.(?:([a-z][a-z0-9-]{0,31})\.)?([0-9a-f]{64})", re.ASCII
)
_OF_ADMIN: Final = b"latchkey session 1\0"
_OF_OPERATOR: Final = b"latchkey session of an operator 1\0"


@dataclass(frozen=True, slots=True)
class Session:
    """A signed-in browser; `expires_at_ms` refers to the store's clock.

    `operator` is the name of a named operator; empty for the admin token.
    """

    id: str
    expires_at_ms: int
    operator: str = ""


def sign(session: Session, key: str) -> str:
    """Return the cookie's value; `key` is the admin token, or TOKEN_SECRET for a named operator."""
    return f"{_text(session)}.{_mac(session, key)}"


def read(
    cookie: str, admin_tokens: Iterable[str], now_ms: int, token_secrets: Iterable[str] = ()
) -> Session | None:
    """Return the session of a cookie; None if it is forged, expired or its key was removed."""
    found = _FORM.fullmatch(cookie)
    if found is None:
        return None
    expires, session_id, name, mac = found.groups()
    session = Session(session_id, int(expires), name or "")
    sound = False
    for key in token_secrets if session.operator else admin_tokens:
        sound |= hmac.compare_digest(_mac(session, key), mac)
    return session if sound and now_ms < session.expires_at_ms else None


def _text(session: Session) -> str:
    named = f".{session.operator}" if session.operator else ""
    return f"{session.expires_at_ms}.{session.id}{named}"


def _mac(session: Session, key: str) -> str:
    purpose = _OF_OPERATOR if session.operator else _OF_ADMIN
    return hmac.new(key.encode(), purpose + _text(session).encode(), hashlib.sha256).hexdigest()
