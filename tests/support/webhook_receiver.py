"""A receiver of webhooks, which verifies signatures with an independent library."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from aiohttp import web
from aiohttp.test_utils import TestServer
from standardwebhooks import Webhook

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS: Final = 30.0


def new_secret() -> str:
    """Return a secret for signatures."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


@dataclass(frozen=True)
class Received:
    """One notification. `accepted`: it was answered with 200."""

    id: str
    type: str
    data: dict[str, Any]
    accepted: bool


class Receiver:
    """Receives notifications at any path. `behaviour`: a status, or `hang`, `redirect`, `endless`.

    Each request must be signed with each of `secrets`; otherwise it fails, and so does the test.
    """

    def __init__(self, *secrets_: str, port: int | None = None) -> None:
        self.secrets: Final = secrets_
        self.behaviour: int | str = 200
        self.received: Final[list[Received]] = []
        self.failures: Final[list[str]] = []
        self._changed = asyncio.Event()
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._receive)
        self._server = TestServer(app, host="127.0.0.1", port=port)

    async def __aenter__(self) -> Self:
        await self._server.start_server()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._server.close()
        assert self.failures == []

    @property
    def port(self) -> int:
        """The port it listens on."""
        assert self._server.port is not None
        return self._server.port

    def url(self, path: str = "in") -> str:
        """Return its address."""
        return f"http://127.0.0.1:{self.port}/{path}"

    @property
    def accepted(self) -> list[Received]:
        """All notifications that were accepted, in order."""
        return [one for one in self.received if one.accepted]

    @property
    def types(self) -> list[str]:
        """The types of accepted notifications, in order."""
        return [one.type for one in self.accepted]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition, looked at after each request."""
        async with asyncio.timeout(SECONDS):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def until_types(self, *types: str) -> None:
        """Wait until exactly these were accepted, in this order."""
        with contextlib.suppress(TimeoutError):
            await self.until(lambda: len(self.types) >= len(types))
        assert self.types == [*types]

    async def _receive(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if request.path == "/elsewhere":
            self.failures.append("a redirect was followed")
        for secret in self.secrets:
            try:
                Webhook(secret).verify(body, dict(request.headers))
            except Exception as error:  # noqa: BLE001 (reported at the end)
                self.failures.append(repr(error))
        decoded = json.loads(body)
        behaviour = self.behaviour
        accepted = behaviour in {200, "endless"}
        self.received.append(
            Received(
                request.headers["webhook-id"],
                decoded.get("type", ""),
                decoded.get("data", decoded),
                accepted,
            )
        )
        self._changed.set()
        if behaviour == "hang":
            await asyncio.sleep(SECONDS)
        if behaviour == "redirect":
            return web.Response(status=307, headers={"Location": "/elsewhere"})
        if behaviour == "endless":
            return await _endless(request)
        return web.Response(status=behaviour if isinstance(behaviour, int) else 500)


async def _endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):
        while True:
            await response.write(b"x" * 65_536)
            await asyncio.sleep(0)
    return response
