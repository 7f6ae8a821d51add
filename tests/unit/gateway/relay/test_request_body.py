"""The body of a relayed request is read before it is passed on, and has a deadline."""

from __future__ import annotations

import asyncio
from unittest.mock import Mock

import pytest
from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol

from services.gateway.relay.http.body import HEAD_BYTES, RequestBody
from tests.support.clock import turns

SOON = 0.01


@pytest.fixture
async def content() -> StreamReader:
    return StreamReader(Mock(BaseProtocol, _reading_paused=False), limit=2**16)


async def test_a_short_body_is_awaited(content: StreamReader) -> None:
    body = RequestBody(content)
    content.feed_data(b"first ")
    reading = asyncio.create_task(body.read_head())
    await turns(5)
    assert not reading.done()
    content.feed_data(b"last")
    content.feed_eof()
    await reading
    assert body.data() == b"first last"


async def test_an_empty_body_has_no_bytes(content: StreamReader) -> None:
    body = RequestBody(content)
    content.feed_eof()
    await body.read_head()
    assert body.data() == b""


async def test_a_long_body_is_streamed_after_its_beginning(content: StreamReader) -> None:
    body = RequestBody(content)
    content.feed_data(b"a" * HEAD_BYTES)
    await body.read_head()
    content.feed_data(b"b")
    content.feed_eof()
    data = body.data()
    assert not isinstance(data, bytes)
    assert [piece async for piece in data] == [b"a" * HEAD_BYTES, b"b"]
    assert not body.paused


async def test_a_long_body_that_pauses_is_aborted(content: StreamReader) -> None:
    body = RequestBody(content, pause_seconds=SOON)
    content.feed_data(b"a" * HEAD_BYTES)
    await body.read_head()
    data = body.data()
    assert not isinstance(data, bytes)
    assert await anext(data) == b"a" * HEAD_BYTES
    with pytest.raises(TimeoutError):
        await anext(data)
    assert body.paused
