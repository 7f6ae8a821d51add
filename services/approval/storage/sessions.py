"""Open operator sessions, shared by all replicas: one expiring Redis key per session.

Its value is the id of the named operator who signed in; OF_ADMIN for the admin token. A session
without its key is over, whether the operator signed out or Redis lost its data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from services.approval.storage.redis import reaching_redis

if TYPE_CHECKING:
    from redis.asyncio import Redis


OF_ADMIN: Final = b"1"
"""Value of a session opened with the admin token."""


def session_key(session_id: str) -> str:
    """Return the key of an open session."""
    return f"latchkey:session:{session_id}"


class SessionStore:
    """Opens and ends sessions. Every method may raise StoreUnavailable."""

    def __init__(self, client: Redis) -> None:
        self._client: Any = client  # its types allow bytes and str; all values here are bytes

    async def open(self, session_id: str, life_ms: int, owner: bytes = OF_ADMIN) -> None:
        """Open a session that expires after `life_ms`."""
        async with reaching_redis():
            await self._client.set(session_key(session_id), owner, px=life_ms)

    async def end(self, session_id: str) -> None:
        """End a session, at every replica at once."""
        async with reaching_redis():
            await self._client.delete(session_key(session_id))
