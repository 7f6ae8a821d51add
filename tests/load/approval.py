"""The calls of approval's HTTP API that a load makes."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final, Self

import aiohttp

CALL_SECONDS: Final = 30.0


class ApprovalError(Exception):
    """Approval did not do what was asked of it."""


class Approval:
    """Approval, as an operator with the admin token sees it."""

    def __init__(self, url: str, admin_token: str) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {admin_token}"}
        self._session = self._new_session()

    async def approve(self, request_id: str) -> None:
        """Let a device in."""
        await self._call("POST", f"v1/requests/{request_id}/approve")

    async def reject_all(self, device_ids: set[str]) -> None:
        """Reject what these devices wait for, and nothing else."""
        for request in (await self._call("GET", "v1/requests"))["pending"]:
            if request["deviceId"] in device_ids:
                await self._call("POST", f"v1/requests/{request['requestId']}/reject", absent=True)

    async def remove(self, device_id: str) -> None:
        """Remove a device; that it is not there is fine."""
        await self._call("DELETE", f"v1/devices/{device_id}", absent=True)

    async def revoke(self, device_id: str, role: str) -> None:
        """Revoke a device's token, which closes its connections."""
        await self._call("POST", f"v1/devices/{device_id}/tokens/{role}/revoke")

    async def let_go(self) -> None:
        """Close the connections that are kept; later calls open new ones."""
        await self._session.close()
        self._session = self._new_session()

    def _new_session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            self._url.rstrip("/") + "/",
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=CALL_SECONDS),
        )

    async def _call(self, method: str, path: str, *, absent: bool = False) -> Any:
        try:
            async with self._session.request(method, path) as answer:
                if answer.ok:
                    return await answer.json() if answer.content_length else None
                if absent and answer.status in {HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT}:
                    return None
                said = (await answer.text())[:200]
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ApprovalError(f"{self._url}: {str(error) or type(error).__name__}") from error
        raise ApprovalError(f"{method} {self._url}/{path}: HTTP {answer.status} {said}")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()
