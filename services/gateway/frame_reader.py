"""aiohttp's WebSocket frame parser, with a callback for each message instead of a queue.

aiohttp hands messages to a coroutine through WebSocketDataQueue: a future and a turn of the loop
for each, and a task for each connection. The parser is public, that queue is not; `feed_data` and
`set_exception` are all that the parser calls. tests/unit/gateway/test_frame_reader.py holds that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from aiohttp._websocket.reader import WebSocketDataQueue
from aiohttp.http import WebSocketReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp.http import WSMessageNoDecodeText as WSMessage

_UNLIMITED_BYTES: Final = 2**30
"""A queue's own limit: nothing is ever queued, so it is never reached."""
_NOBODY: Final = cast("Any", None)
"""The protocol and the loop of a queue: it would pause the one, and wait on the other."""


class _Callbacks(WebSocketDataQueue):
    """Stands where the parser expects its queue."""

    def __init__(
        self, on_message: Callable[[WSMessage], None], on_broken: Callable[[BaseException], None]
    ) -> None:
        super().__init__(_NOBODY, _UNLIMITED_BYTES, loop=_NOBODY)
        self._on_message = on_message
        self._on_broken = on_broken

    def feed_data(self, data: Any, _size: int) -> None:
        """Take a message from the parser."""
        self._on_message(data)

    def set_exception(self, exc: BaseException, _cause: BaseException | None = None) -> None:
        """Take from the parser that it can't go on."""
        self._on_broken(exc)


def frame_reader(
    on_message: Callable[[WSMessage], None],
    on_broken: Callable[[BaseException], None],
    *,
    message_limit_bytes: int,
) -> Callable[[bytes], object]:
    """Return what is to be fed with a peer's bytes; text comes as bytes, unchecked.

    `on_broken` gets a WebSocketError where the peer broke the protocol, or whatever `on_message`
    raised; after it nothing is read any more.
    """
    queue = _Callbacks(on_message, on_broken)
    reader = WebSocketReader(queue, message_limit_bytes, compress=False, decode_text=False)
    return reader.feed_data
