"""What is refused beyond aiohttp's parser, and which Host applies, without sockets."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser
from aiohttp.http_exceptions import BadHttpMessage, HttpProcessingError

from shared.server.strict_http import StrictParser, VersionNotSupported, status_of
from tests.support.http.rows import HOST, REQUESTS, get

BUFFER_BYTES = 65_536


async def parser() -> StrictParser:
    loop = asyncio.get_running_loop()
    inner: Any = HttpRequestParser(BaseProtocol(loop), loop, BUFFER_BYTES, max_line_size=8190)
    return StrictParser(inner)


async def host_of(sent: bytes) -> str:
    """Return the Host of a request as the services see it."""
    ((message, _),), _, _ = (await parser()).feed_data(sent)
    return str(message.headers["Host"])


class TestHost:
    async def test_the_host_of_the_target_takes_precedence(self) -> None:
        assert await host_of(get(b"/x")) == "gateway.example"
        assert await host_of(get(b"http://other.example:81/x")) == "other.example:81"
        assert await host_of(get(b"http://[::1]/x")) == "[::1]"

    @pytest.mark.parametrize(
        "host",
        ["", "a.example", "a.example:1", "a.example:", "[::1]", "[::1]:8", "a_b~%2d", "1.2.3.4"],
    )
    async def test_a_host_may_be_whatever_the_grammar_allows(self, host: str) -> None:
        assert await host_of(get(headers=f"Host: {host}\r\n".encode())) == host

    @pytest.mark.parametrize(
        "host", ["a b", "a/b", "a?b", "a#b", "u@a", "a:b", "[::1", "::1", "ä", "%2"]
    )
    async def test_an_invalid_host_is_refused(self, host: str) -> None:
        with pytest.raises(BadHttpMessage):
            await host_of(get(headers=f"Host: {host}\r\n".encode()))


class TestPieces:
    @pytest.mark.parametrize("row", REQUESTS, ids=lambda row: row.name)
    async def test_it_does_not_matter_how_a_request_comes(self, row: Any) -> None:
        strict = await parser()
        status, refused = 0, False
        for at in range(len(row.sent)):
            try:
                messages, _, _ = strict.feed_data(row.sent[at : at + 1])
            except HttpProcessingError as error:
                status, refused = status_of(error), True
                break
            status = 200 if messages else status
        assert refused == (row.status >= 400 and row.status != 405)
        assert status == (row.status if refused else 200)

    async def test_a_later_request_is_looked_at_too(self) -> None:
        strict = await parser()
        stored = b"GET /a HTTP/1.1\r\n" + HOST + b"\r\n"
        strict.feed_data(stored + stored)
        with pytest.raises(VersionNotSupported):
            strict.feed_data(get(version=b"HTTP/0.9"))

    async def test_all_of_several_are_looked_at(self) -> None:
        stored = b"GET /a HTTP/1.1\r\n" + HOST + b"\r\n"
        with pytest.raises(BadHttpMessage):
            (await parser()).feed_data(stored + get(headers=b"Host: a b\r\n"))


class TestStatus:
    def test_the_status_of_an_unknown_error_is_400(self) -> None:
        assert status_of(BadHttpMessage("x")) == 400
