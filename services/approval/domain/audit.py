"""Audit log entry."""

from __future__ import annotations

import msgspec


class AuditEntry(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True):
    """Who did what, and when. `id` is the change number; reading continues after it."""

    action: str
    device_id: str
    actor: str
    at_ms: int
    request_id: str = ""
    superseded_request_id: str = ""
    role: str = ""
    roles: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    label: str = ""
    address: str = ""
    credential: str = ""
    id: int = 0
