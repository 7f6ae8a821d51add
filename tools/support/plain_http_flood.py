"""A flood of plain HTTP: many sockets send pipelined requests and never read a response.

    python -m tools.support.plain_http_flood 18790 --target /openapi.json --seconds 10

Loopback only. Each client address is one of 127.0.1.1, 127.0.1.2 and so on.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import socket
from dataclasses import dataclass
from typing import Final

HOST: Final = "127.0.0.1"
ADDRESSES: Final = 8
SOCKETS_PER_ADDRESS: Final = 128
PIPELINED: Final = 100
PAUSE_SECONDS: Final = 0.05
"""Between two attempts of a socket to send more, or to connect again."""
RECEIVE_BUFFER_BYTES: Final = 4096
_WOULD_BLOCK: Final = frozenset({errno.EAGAIN, errno.EINPROGRESS})


@dataclass(frozen=True, slots=True)
class Flood:
    """What one flood sends, and from where."""

    request: bytes
    addresses: int = ADDRESSES
    sockets_per_address: int = SOCKETS_PER_ADDRESS
    pipelined: int = PIPELINED
    more: bytes = b""
    """What each socket sends after its requests, in pieces of one byte each pause."""


@dataclass(slots=True)
class FloodCounts:
    """What a flood did."""

    connected: int = 0
    sent_bytes: int = 0
    closed: int = 0
    """Connections that the service closed or refused."""


def get(target: str, *headers: str) -> bytes:
    """Return a GET request."""
    return _request("GET", target, headers)


def post(target: str, *headers: str, body: bytes) -> bytes:
    """Return a POST request with a JSON body."""
    length = f"Content-Length: {len(body)}"
    return _request("POST", target, (*headers, "Content-Type: application/json", length)) + body


async def flood_plain_http(
    port: int, flood: Flood, stop: asyncio.Event, counts: FloodCounts | None = None
) -> FloodCounts:
    """Flood a service on loopback until `stop` is set."""
    counts = FloodCounts() if counts is None else counts
    clients = [
        asyncio.create_task(_client(port, f"127.0.1.{address + 1}", flood, stop, counts))
        for address in range(flood.addresses)
        for _ in range(flood.sockets_per_address)
    ]
    try:
        await stop.wait()
    finally:
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
    return counts


async def _client(
    port: int, address: str, flood: Flood, stop: asyncio.Event, counts: FloodCounts
) -> None:
    """Keep one socket busy; connect again when it is closed."""
    loop = asyncio.get_running_loop()
    burst = flood.request * flood.pipelined
    while not stop.is_set():
        with contextlib.closing(socket.socket()) as sock:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
            sock.bind((address, 0))
            try:
                await loop.sock_connect(sock, (HOST, port))
                counts.connected += 1
                await _send(sock, burst, flood.more, counts)
            except OSError:
                counts.closed += 1
        await asyncio.sleep(PAUSE_SECONDS)


async def _send(sock: socket.socket, burst: bytes, more: bytes, counts: FloodCounts) -> None:
    """Send without end; raises OSError when the service closes the connection."""
    left = memoryview(burst)
    while True:
        try:
            sent = sock.send(left)
        except OSError as error:
            if error.errno not in _WOULD_BLOCK:
                raise
            sent = 0
        counts.sent_bytes += sent
        left = left[sent:]
        if not left:
            left = memoryview(more[:1] if more else burst)
        await asyncio.sleep(PAUSE_SECONDS)


def _request(method: str, target: str, headers: tuple[str, ...]) -> bytes:
    lines = (f"{method} {target} HTTP/1.1", f"Host: {HOST}", *headers)
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"


async def _run(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(options.seconds, stop.set)
    headers = [f"Authorization: Bearer {options.bearer}"] if options.bearer else []
    if options.body_bytes:
        request = post(options.target, *headers, body=b" " * options.body_bytes)
    else:
        request = get(options.target, *headers)
    more = b""
    if options.withhold_body:
        request, more = request.rstrip(b" "), b" "
    flood = Flood(
        request,
        addresses=options.addresses,
        sockets_per_address=options.sockets,
        pipelined=1 if options.withhold_body else options.pipelined,
        more=more,
    )
    counts = await flood_plain_http(options.port, flood, stop)
    print(counts)


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--target", default="/openapi.json")
    parser.add_argument("--bearer", default="")
    parser.add_argument("--body-bytes", type=int, default=0, help="send POST with such a body")
    parser.add_argument(
        "--withhold-body", action="store_true", help="send one byte of the body each 50 ms"
    )
    parser.add_argument("--addresses", type=int, default=ADDRESSES)
    parser.add_argument("--sockets", type=int, default=SOCKETS_PER_ADDRESS)
    parser.add_argument("--pipelined", type=int, default=PIPELINED)
    parser.add_argument("--seconds", type=float, default=10.0)
    asyncio.run(_run(parser.parse_args()))


if __name__ == "__main__":
    _main()
