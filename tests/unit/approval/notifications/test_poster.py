"""What a target or a name server answers decides nothing but the outcome of one attempt."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from structlog.testing import capture_logs

from services.approval.notifications.event import TEST, Event
from services.approval.notifications.poster import Poster
from services.approval.notifications.resolver import CheckedResolver
from services.approval.notifications.retry import RetryPolicy
from services.approval.notifications.signing import SigningKeys
from services.approval.notifications.targets import Target

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from services.approval.notifications.poster import Outcome

TLS: Final = Path(__file__).parents[3] / "integration/bus/tls"
HIDDEN: Final = "hidden-path"
EVENT: Final = Event(id="msg_1", type=TEST, at_ms=1)
OK: Final = b"HTTP/1.1 200 OK\r\n"
ATTEMPT_SECONDS: Final = 2.0


@contextlib.asynccontextmanager
async def answering(
    answer: bytes, *, then: bytes = b"", tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """Run a server that answers everything with `answer`, and `then` forever; yield its port."""
    busy: set[asyncio.Task[None] | None] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        busy.add(asyncio.current_task())
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            while then:
                writer.write(then)
                await writer.drain()
                await asyncio.sleep(0)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in busy:
            if task is not None:
                task.cancel()


async def attempt(
    port: int,
    *,
    scheme: str = "http",
    lookup: Callable[[str, int], list[tuple[Any, ...]]] | None = None,
    attempts: int = 1,
) -> Outcome:
    """Make attempts; return the outcome of the last one."""
    host = "127.0.0.1" if lookup is None else "target.example"
    target = Target("json-1", "json", host, "key", f"{scheme}://{host}:{port}/{HIDDEN}")
    poster = Poster(
        target,
        SigningKeys((b"k" * 32,)),
        public_url="",
        resolver=CheckedResolver(private_addresses=True, lookup=lookup),
        attempt_seconds=ATTEMPT_SECONDS,
    )
    outcome = None
    try:
        for _ in range(attempts):
            async with asyncio.timeout(2 * ATTEMPT_SECONDS):
                outcome = await poster.post(EVENT, 1_000)
    finally:
        await poster.close()
    assert outcome is not None
    assert HIDDEN not in repr(outcome)
    return outcome


@pytest.mark.parametrize(
    ("answer", "then", "result"),
    [
        (OK + b"x: " + b"a" * 1_000_000 + b"\r\n\r\n", b"", "protocol"),
        (OK, b"x: a\r\n" * 1_000, "protocol"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", "timeout"),
        (b"\x00\xff" * 100, b"", "protocol"),
        (b"", b"", "connect"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"5\r\nabcde\r\n", "delivered"),
        (OK + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd", b"", "delivered"),
        (b"HTTP/1.1 599 a\r\nContent-Length: 9999999999\r\n\r\n", b"x" * 9_999, "status"),
    ],
)
async def test_an_answer_without_bounds_or_sense(answer: bytes, then: bytes, result: str) -> None:
    async with answering(answer, then=then) as port:
        assert (await attempt(port)).result == result


@pytest.mark.parametrize(
    ("asked", "ms"),
    [
        ("-5", 0),
        ("Wed, 21 Oct 2099 07:28:00 GMT", 0),
        ("1.5", 0),
        ("\u00b2", 0),
        ("7", 7_000),
        ("9" * 5_000, 999_999_999_000),
    ],
)
async def test_retry_after(asked: str, ms: int) -> None:
    head = "HTTP/1.1 503 a\r\nContent-Length: 0\r\nRetry-After: "
    async with answering(head.encode() + asked.encode() + b"\r\n\r\n") as port:
        outcome = await attempt(port)
    assert (outcome.status, outcome.retry_after_ms) == (503, ms)
    assert RetryPolicy().delay_ms(1, 0.5, outcome.retry_after_ms) <= RetryPolicy().most_ms


async def test_a_certificate_that_nobody_vouches_for() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "certificate.pem", TLS / "key.pem")
    async with answering(OK + b"\r\n", tls=context) as port:
        outcome = await attempt(port, scheme="https")
    assert outcome.result == "tls"
    assert "certificate is not accepted" in outcome.error


async def test_a_server_without_tls() -> None:
    async def plain(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    outcome = await attempt(server.sockets[0].getsockname()[1], scheme="https")
    server.close()
    assert (outcome.result, outcome.error) == ("tls", "no secure connection: TLS failed")


async def test_a_lookup_that_fails_in_any_way_ends() -> None:
    """Otherwise each further attempt would wait for it."""

    def lookup(_host: str, _port: int) -> list[tuple[Any, ...]]:
        raise RuntimeError(HIDDEN)

    assert (await attempt(1, lookup=lookup, attempts=2)).result == "name"


async def test_an_error_that_nobody_expected_is_an_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    """Event loops and libraries raise more than they document, with the address in the text."""

    async def fail(*_args: object, **_options: object) -> None:
        raise RuntimeError(HIDDEN)

    monkeypatch.setattr("aiohttp.TCPConnector.connect", fail)
    with capture_logs() as logs:
        outcome = await attempt(1)
    assert (outcome.result, logs) == ("protocol", [])
