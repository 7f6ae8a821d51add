"""The calls of approval's HTTP API that a load test makes."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final, Self

import aiohttp

CALL_SECONDS: Final = 30.0
PROBLEM: Final = "application/problem+json"


class ApprovalError(Exception):
    """A call of the approval API failed."""


class Approval:
    """The approval API, used with the admin token."""

    def __init__(self, url: str, admin_token: str) -> None:
        self.url: Final = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {admin_token}"}
        self._session = self._new_session()

    async def gateways(self) -> set[str]:
        """Return the boot ids of the live gateways. Raises ApprovalError."""
        found = await self._call("GET", "v1/replicas")
        try:
            return {str(gateway["bootId"]) for gateway in found["gateways"]}
        except (LookupError, TypeError):
            raise self._another() from None

    async def approve(self, request_id: str) -> None:
        """Approve a request."""
        await self._call("POST", f"v1/requests/{request_id}/approve")

    async def reject_all(self, device_ids: set[str]) -> int:
        """Reject the pending requests of these devices only; returns their number."""
        count = 0
        for request in (await self._call("GET", "v1/requests"))["pending"]:
            if request["deviceId"] in device_ids:
                count += 1
                await self._call("POST", f"v1/requests/{request['requestId']}/reject", absent=True)
        return count

    async def remove(self, device_id: str) -> None:
        """Remove a device; a missing one is fine."""
        await self._call("DELETE", f"v1/devices/{device_id}", absent=True)

    async def revoke(self, device_id: str, role: str) -> None:
        """Revoke a device's token, which closes its connections."""
        await self._call("POST", f"v1/devices/{device_id}/tokens/{role}/revoke")

    async def let_go(self) -> None:
        """Close the kept connections; later calls open new ones."""
        await self._session.close()
        self._session = self._new_session()

    def _new_session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            self.url + "/",
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=CALL_SECONDS),
        )

    async def _call(self, method: str, path: str, *, absent: bool = False) -> Any:
        try:
            async with self._session.request(method, path, allow_redirects=False) as answer:
                if answer.ok:
                    return await answer.json() if answer.content_length else None
                if answer.status == HTTPStatus.UNAUTHORIZED:
                    raise ApprovalError(f"approval at {self.url} does not accept this admin token")
                if answer.content_type != PROBLEM:
                    raise self._another()
                if absent and answer.status in {HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT}:
                    return None
                detail = (await answer.text())[:200]
        except aiohttp.ContentTypeError:
            raise self._another() from None
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            detail = str(error) or "no answer in time"
            raise ApprovalError(f"approval does not answer at {self.url}: {detail}") from error
        raise ApprovalError(f"{method} {self.url}/{path}: HTTP {answer.status} {detail}")

    def _another(self) -> ApprovalError:
        return ApprovalError(f"the server at {self.url} is not Latchkey's approval service")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()
