"""WebSockets that do not speak the gateway protocol; their bytes are forwarded unchanged.

The desktop view and the surfaces of plugins have WebSockets of their own. A ticket in the address
says who may open one, and the upstream checks it. They are passed on for clients from known
addresses alone, so that strangers open no socket to the upstream.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Final, cast

from services.gateway.relay.rules.headers import forwarded_headers, passed_headers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from multidict import CIMultiDict, CIMultiDictProxy

    from services.gateway.relay.rules.headers import ForwardedClient
    from services.gateway.relay.upstream.upstream import Upstream

    Headers = CIMultiDict[str] | CIMultiDictProxy[str]

PIPES_LIMIT: Final = 256
"""How many pipes one gateway has."""
PIPES_LIMIT_PER_ADDRESS: Final = 16
"""How many of them are of one address."""
HELD_LIMIT_BYTES: Final = 64 * 1024
"""What a client may send before its upstream socket is open; more is not read until then."""
_NOT_REACHED: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Length: 0\r\n"
    b"Connection: close\r\n\r\n"
)


class Pipes:
    """The pipes of one gateway. All end when its lease expires."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._pipes: dict[Pipe, str] = {}
        self._by_address: Counter[str] = Counter()
        self._connecting: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._pipes)

    def has_room_for(self, limit_key: str) -> bool:
        """Return whether this address may open another pipe."""
        return (
            len(self._pipes) < PIPES_LIMIT and self._by_address[limit_key] < PIPES_LIMIT_PER_ADDRESS
        )

    def open(
        self,
        transport: asyncio.Transport,
        limit_key: str,
        target: str,
        headers: Headers,
        client: ForwardedClient,
    ) -> Pipe:
        """Forward an upgrade, which the upstream answers. `target` is path and query."""
        pipe = Pipe(transport, self._ended)
        self._pipes[pipe] = limit_key
        self._by_address[limit_key] += 1
        far_end = _FarEnd(pipe, _upgrade_request(target, headers, client))
        task = asyncio.get_running_loop().create_task(self._connect(pipe, far_end))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        return pipe

    def close_all(self) -> None:
        """End all pipes at once."""
        for pipe in list(self._pipes):
            pipe.abort()

    async def stop(self) -> None:
        """End all pipes, including those that are still connecting."""
        self.close_all()
        for task in self._connecting:
            task.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)

    async def _connect(self, pipe: Pipe, far_end: _FarEnd) -> None:
        if not await self._upstream.connect(lambda: far_end):
            pipe.refuse(_NOT_REACHED)

    def _ended(self, pipe: Pipe) -> None:
        limit_key = self._pipes.pop(pipe, None)
        if limit_key is None:
            return
        self._by_address[limit_key] -= 1
        if not self._by_address[limit_key]:
            del self._by_address[limit_key]


class Pipe(asyncio.Protocol):
    """The client's end. If one side does not read, the other is paused."""

    def __init__(self, transport: asyncio.Transport, on_end: Callable[[Pipe], None]) -> None:
        self.transport: Final = transport
        self._on_end = on_end
        self._far: asyncio.Transport | None = None
        self._held = bytearray()

    def data_received(self, data: bytes) -> None:
        """Forward bytes from the client."""
        if self._far is not None:
            self._far.write(data)
            return
        self._held += data
        if len(self._held) > HELD_LIMIT_BYTES and not self.transport.is_closing():
            self.transport.pause_reading()

    def pause_writing(self) -> None:
        """Stop reading from the upstream, because the client does not read."""
        if self._far is not None and not self._far.is_closing():
            self._far.pause_reading()

    def resume_writing(self) -> None:
        """Resume reading from the upstream."""
        if self._far is not None and not self._far.is_closing():
            self._far.resume_reading()

    def connection_lost(self, _exc: BaseException | None) -> None:
        """End the upstream's side as well."""
        self._on_end(self)
        if self._far is not None:
            self._far.close()

    def opened(self, far: asyncio.Transport) -> None:
        """Record the upstream's side and send it the buffered bytes."""
        if self.transport.is_closing():
            far.abort()
            return
        self._far = far
        far.write(bytes(self._held))
        if len(self._held) > HELD_LIMIT_BYTES:
            self.transport.resume_reading()
        self._held.clear()

    def refuse(self, answer: bytes) -> None:
        """Respond to the upgrade and end."""
        if not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()

    def abort(self) -> None:
        """End both sides at once."""
        self.transport.abort()
        if self._far is not None:
            self._far.abort()


class _FarEnd(asyncio.Protocol):
    """The upstream's end."""

    def __init__(self, pipe: Pipe, request: bytes) -> None:
        self._pipe = pipe
        self._request = request

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        far = cast("asyncio.Transport", transport)
        far.write(self._request)
        self._pipe.opened(far)

    def data_received(self, data: bytes) -> None:
        if not self._pipe.transport.is_closing():
            self._pipe.transport.write(data)

    def pause_writing(self) -> None:
        if not self._pipe.transport.is_closing():
            self._pipe.transport.pause_reading()

    def resume_writing(self) -> None:
        if not self._pipe.transport.is_closing():
            self._pipe.transport.resume_reading()

    def connection_lost(self, _exc: BaseException | None) -> None:
        self._pipe.transport.close()


def _upgrade_request(target: str, headers: Headers, client: ForwardedClient) -> bytes:
    """Return the client's upgrade for the upstream, with its key, so that the response matches."""
    passed = [
        *forwarded_headers(client),
        *passed_headers(headers.items(), ",".join(headers.getall("Connection", ()))),
        *_websocket_headers(headers.items()),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
    ]
    lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in passed)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")


def _websocket_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [one for one in headers if one[0].lower().startswith("sec-websocket-")]
