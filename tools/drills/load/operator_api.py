"""The operators' HTTP API client, which goes through HAProxy and retries."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, Final, Self

import aiohttp

from tools.drills.judging.observed import Entry
from tools.support.actors import Reply

if TYPE_CHECKING:
    from tools.drills.stack.stack import DrillStack

TRY_SECONDS: Final = 3.0
PAUSE_SECONDS: Final = 0.2
PATIENCE_SECONDS: Final = 30.0
"""How long an operator retries at most."""
PAGE: Final = 1000


class OperatorApi:
    """An operator with the admin token; retries after 5xx and missing responses, as documented."""

    def __init__(self, stack: DrillStack) -> None:
        self._url = stack.haproxy.http_url
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {stack.stack.admin_token}"},
            timeout=aiohttp.ClientTimeout(total=TRY_SECONDS),
            # One connection per call: HAProxy chooses a replica for each connection.
            connector=aiohttp.TCPConnector(force_close=True),
        )

    async def settle(self, method: str, path: str) -> Reply:
        """Call until a response gives the result. Raises TimeoutError."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                reply = await self._try(method, path)
                if reply is not None and reply.status < 500:
                    return reply
                await asyncio.sleep(random.uniform(0.5, 1.0) * PAUSE_SECONDS)

    async def approve(self, request_id: str) -> Reply:
        """Approve a request."""
        return await self.settle("POST", f"requests/{request_id}/approve")

    async def remove(self, device: str) -> Reply:
        """Remove a device; a retry after a successful attempt finds none (404)."""
        return await self.settle("DELETE", f"devices/{device}")

    async def pending(self) -> dict[str, str]:
        """Return the pending request ids by device."""
        reply = await self.settle("GET", "requests")
        return {request["deviceId"]: request["requestId"] for request in reply.ok()["pending"]}

    async def paired(self) -> frozenset[str]:
        """Return the ids of all paired devices."""
        reply = await self.settle("GET", "devices")
        return frozenset(device["deviceId"] for device in reply.ok()["devices"])

    async def audit(self, after: int) -> list[Entry]:
        """Return the audit log's entries after a number."""
        found: list[Entry] = []
        while True:
            page: Any = (await self.settle("GET", f"audit?after={after}&limit={PAGE}")).ok()
            if not page["entries"]:
                return found
            found += [
                Entry(entry["id"], entry["action"], entry["deviceId"], entry.get("requestId") or "")
                for entry in page["entries"]
            ]
            after = page["next"]

    async def _try(self, method: str, path: str) -> Reply | None:
        try:
            async with self._session.request(method, f"{self._url}/v1/{path}") as answer:
                return Reply(answer.status, await answer.json(content_type=None))
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            return None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()
