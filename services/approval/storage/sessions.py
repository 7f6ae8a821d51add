"""Which sessions of operators are open, for all replicas: a key each in Redis, which expires.

No key, no session: signing out deletes it, and a Redis that has forgotten everything lets nobody
go on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from services.approval.storage.reaching import reaching_redis

if TYPE_CHECKING:
    from redis.asyncio import Redis


def session_key(session_id: str) -> str:
    """Name the key of an open session."""
    return f"latchkey:session:{session_id}"


class SessionStore:
    """Opens and ends sessions. Every method raises StoreUnavailable."""

    def __init__(self, client: Redis) -> None:
        self._client: Any = client  # its types cover bytes and text, ours are bytes

    async def open(self, session_id: str, life_ms: int) -> None:
        """Keep a session for so long."""
        async with reaching_redis():
            await self._client.set(session_key(session_id), b"1", px=life_ms)

    async def is_open(self, session_id: str) -> bool:
        """Say whether a session was opened and not ended since."""
        async with reaching_redis():
            return bool(await self._client.exists(session_key(session_id)))

    async def end(self, session_id: str) -> None:
        """End a session, at every replica at once."""
        async with reaching_redis():
            await self._client.delete(session_key(session_id))
