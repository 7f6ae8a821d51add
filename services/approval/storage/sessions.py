"""Open operator sessions, shared by all replicas: one expiring Redis key per session.

A session without its key is over, whether the operator signed out or Redis lost its data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from services.approval.storage.redis import reaching_redis

if TYPE_CHECKING:
    from redis.asyncio import Redis


def session_key(session_id: str) -> str:
    """Return the key of an open session."""
    return f"latchkey:session:{session_id}"


class SessionStore:
    """Opens and ends sessions. Every method may raise StoreUnavailable."""

    def __init__(self, client: Redis) -> None:
        self._client: Any = client  # its types allow bytes and str; all values here are bytes

    async def open(self, session_id: str, life_ms: int) -> None:
        """Open a session that expires after `life_ms`."""
        async with reaching_redis():
            await self._client.set(session_key(session_id), b"1", px=life_ms)

    async def is_open(self, session_id: str) -> bool:
        """Return whether a session is open."""
        async with reaching_redis():
            return bool(await self._client.exists(session_key(session_id)))

    async def end(self, session_id: str) -> None:
        """End a session, at every replica at once."""
        async with reaching_redis():
            await self._client.delete(session_key(session_id))
