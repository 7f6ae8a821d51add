"""An operator that calls the HTTP API and validates every answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec
from aiohttp import DummyCookieJar
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from services.approval.api.static import PAGE, page_files
from services.approval.problems import TYPE_PREFIX, Problem
from tests.integration.approval.replica import ADMIN_TOKEN

if TYPE_CHECKING:
    from aiohttp import web
    from multidict import CIMultiDictProxy

    from tests.integration.approval.replica import Replica
    from tests.support.approval.devices import Device

BEARER: Final = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
RAW_SECONDS: Final = 10.0
REVALIDATED: Final = {"/openapi.json", *(file.path for file in page_files())} - {PAGE}
"""Documents that clients cache and revalidate: the description and parts of the page."""
HARDENING: Final = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Server": "latchkey",
}


@dataclass(frozen=True)
class Reply:
    """One answer: `body` is decoded JSON, or text."""

    status: int
    headers: CIMultiDictProxy[str]
    text: str
    body: Any

    def ok(self) -> Any:
        """Return the body of a successful call."""
        assert self.status == 200, self.text
        assert self.headers["Content-Type"].startswith("application/json")
        return self.body

    def problem(self, status: int, name: str) -> dict[str, Any]:
        """Check the problem and its format; returns its extra members."""
        assert (self.status, self.headers["Content-Type"]) == (
            status,
            "application/problem+json",
        ), self.text
        understood = msgspec.convert(self.body, Problem)
        assert self.body["status"] == understood.status == status
        assert self.body["type"] == TYPE_PREFIX + name
        assert understood.title
        assert understood.detail
        members: dict[str, Any] = {
            key: value
            for key, value in self.body.items()
            if key not in {"type", "title", "status", "detail"}
        }
        return members


def path_of(device: Device, *more: str) -> str:
    """Return the path of a device or of a part of it."""
    return "/".join(("/v1/devices", device.device_id, *more))


class Operator:
    """Calls a replica's API, with the admin token by default."""

    def __init__(self, replica: Replica) -> None:
        self._client: TestClient[web.Request, web.Application] = TestClient(
            TestServer(replica.app), cookie_jar=DummyCookieJar()
        )

    @property
    def url(self) -> URL:
        """The URL of the API."""
        return self._client.make_url("/")

    async def call(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        headers: dict[str, str] | None = None,
        data: Any = None,
    ) -> Reply:
        """Make a call; the path is sent verbatim."""
        url = URL(str(self.url).rstrip("/") + path, encoded=True)
        sent = BEARER if headers is None else headers
        caching = {"Cache-Control": "no-cache"} if path.partition("?")[0] in REVALIDATED else {}
        async with self._client.session.request(
            method, url, json=json, data=data, headers=sent, allow_redirects=False
        ) as response:
            text = await response.text()
            for name, value in {**HARDENING, **caching}.items():
                assert response.headers[name] == value
            is_json = response.content_type.endswith("json") and method != "HEAD"
            body = msgspec.json.decode(text) if is_json else text
            return Reply(response.status, response.headers, text, body)

    async def raw(self, request: str) -> bytes:
        """Send a request verbatim, as latin-1; returns the whole answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.url.port)
        try:
            writer.write(request.encode("latin-1"))
            return await asyncio.wait_for(reader.read(), RAW_SECONDS)
        finally:
            writer.close()
            await writer.wait_closed()

    async def get(self, path: str) -> Reply:
        """Send a GET."""
        return await self.call("GET", path)

    async def post(self, path: str, json: Any = None) -> Reply:
        """Send a POST."""
        return await self.call("POST", path, json=json)

    async def approve(self, request_id: str) -> Reply:
        """Approve a request."""
        return await self.post(f"/v1/requests/{request_id}/approve")

    async def pending_ids(self) -> list[str]:
        """Return the ids of the pending requests in listed order."""
        listed = (await self.get("/v1/requests")).ok()
        return [request["requestId"] for request in listed["pending"]]

    async def audit(self) -> list[dict[str, Any]]:
        """Return the whole audit log."""
        entries: list[dict[str, Any]] = (await self.get("/v1/audit?limit=1000")).ok()["entries"]
        return entries

    async def __aenter__(self) -> Self:
        await self._client.start_server()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()
