"""One WebSocket to the upstream, in callbacks: the upgrade as a client, then frames."""

from __future__ import annotations

import asyncio
import base64
import os
from hashlib import sha1
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from aiohttp._websocket.helpers import websocket_mask
from aiohttp.http import HttpProcessingError, HttpResponseParser

from services.gateway.websocket.frame_parser import (
    CLOSE,
    PING,
    PONG,
    TEXT,
    BrokenFrame,
    close_code,
)
from services.gateway.websocket.frames import frame_header
from services.gateway.websocket.passing_parser import PassingParser
from services.gateway.websocket.protocol import PASSED_PER_TURN_BYTES, SLICES_PER_TURN
from shared.protocol.closing import CloseCode
from shared.protocol.limits import FRAME_LIMIT_BYTES
from shared.server.loop_budget import Lane

if TYPE_CHECKING:
    from collections.abc import Iterable

    from services.gateway.websocket.passing_parser import Passer
    from shared.server.loop_budget import LoopBudget

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY_BYTES: Final = 16
_MASK_BYTES: Final = 4
_BODY_BUFFER_BYTES: Final = 2**16
"""The response parser's buffer for a body: only a refusal has one, and it is not read."""
_LINE_LIMIT_BYTES: Final = 8190
"""Cap on the status line and on each header of the upstream's response."""
UNSENT_SECONDS: Final = 10.0
"""How long a socket that is closed may take to send what the upstream has not read."""
SWITCHING_PROTOCOLS: Final = 101


class Listener(Protocol):
    """The user of an upstream socket. After `on_end` nothing more is called."""

    def on_text(self, payload: bytes) -> None:
        """Handle one text message."""
        ...

    def on_end(self, code: int | None, reason: str) -> None:
        """Handle the end of the socket, with the upstream's close code or None."""
        ...

    def on_held(self, held_bytes: int) -> None:
        """Note how many bytes of incomplete and unread messages the socket holds."""
        ...

    def on_full(self) -> None:
        """Stop sending, because the upstream does not read."""
        ...

    def on_drained(self) -> None:
        """Resume sending, because the upstream reads again."""
        ...


class UpstreamSocket(asyncio.Protocol):
    """Sends the upgrade once connected, then passes each text message to its listener.

    Frames for which the event loop has no time left are processed later, in slices; sockets take
    turns.
    """

    __slots__ = (
        "_accept",
        "_budget",
        "_closed",
        "_data",
        "_ended",
        "_holds",
        "_is_paused",
        "_listener",
        "_parser",
        "_request",
        "_response",
        "_start",
        "_transport",
        "_waits",
        "pinged",
    )

    def __init__(
        self,
        target: str,
        headers: Iterable[tuple[str, str]],
        listener: Listener,
        budget: LoopBudget,
    ) -> None:
        key = base64.b64encode(os.urandom(_KEY_BYTES))
        digest = sha1(key + _GUID, usedforsecurity=False).digest()
        self._accept = base64.b64encode(digest).decode()
        self._request = _upgrade_request(target, headers, key)
        self._listener: Listener | None = listener
        self._budget = budget
        self._data = b""
        """Received bytes; those from `_start` on wait for loop time."""
        self._start = 0
        self._waits = False
        """Whether so much waits that nothing more is read."""
        self._response: HttpResponseParser | None = None
        self._parser: PassingParser | None = None
        self._transport: asyncio.Transport | None = None
        self._closed: tuple[int, str] | None = None
        """Code and reason of the upstream's close frame."""
        self._ended = False
        self._holds = False
        """Whether held bytes were reported."""
        self._is_paused = False
        """Whether nothing is read, and so no answer to a ping."""
        self.pinged = False
        """Whether a ping is unanswered."""

    @property
    def is_open(self) -> bool:
        """Whether frames may be sent."""
        return self._parser is not None and not self._ended

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the upgrade."""
        self._transport = cast("asyncio.Transport", transport)
        if self._listener is None:
            self._transport.abort()
            return
        self._response = HttpResponseParser(
            cast("Any", self),
            asyncio.get_running_loop(),
            _BODY_BUFFER_BYTES,
            max_line_size=_LINE_LIMIT_BYTES,
            max_field_size=_LINE_LIMIT_BYTES,
        )
        self._transport.write(self._request)
        if self._is_paused:
            self._transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        """Handle bytes from the upstream."""
        parser = self._parser
        if parser is None:
            if self._response is not None:
                self._take_response(self._response, data)
        elif (
            self._data
            or len(data) > PASSED_PER_TURN_BYTES > parser.missing_bytes
            or not (began := self._budget.begin(Lane.SESSIONS))
        ):
            self._wait(data)
        else:
            parser.feed(data)
            if parser.incomplete is not None or self._holds:
                self._report_held()
            self._budget.end(Lane.SESSIONS, began)

    def run_slice(self, *, overdue: bool) -> bool:
        """Process one slice of the waiting bytes; return whether there are more."""
        parser, data, start = self._parser, self._data, self._start
        if parser is None or self._ended or overdue:
            self._data = b""
            return False
        end = start + max(PASSED_PER_TURN_BYTES // SLICES_PER_TURN, parser.missing_bytes)
        has_more = end < len(data)
        if has_more:
            self._start = end
            parser.feed(data[start:end])
        else:
            self._data, self._start = b"", 0
            parser.feed(data[start:] if start else data)
        if has_more or self._holds or parser.incomplete is not None:
            self._report_held()
        if self._waits and not has_more:
            self._waits = False
            self._read_or_not()
        return has_more and not self._ended

    def connection_lost(self, _exc: BaseException | None) -> None:
        """Process waiting bytes, and report the end; without a close frame it has no code."""
        self._transport = None
        waiting = self._stop_waiting()
        if waiting and self._parser is not None and not self._ended:
            self._parser.feed(waiting)
        code, reason = self._closed or (None, "")
        self._end(code, reason)

    def pause_writing(self) -> None:
        """Report that the upstream does not read."""
        self._report_held()
        if self._listener is not None:  # the report may have closed the connection
            self._listener.on_full()

    def resume_writing(self) -> None:
        """Report that the upstream reads again."""
        self._report_held()
        if self._listener is not None:
            self._listener.on_drained()

    def pause_reading(self) -> None:
        """Stop reading, because the client does not read; pings wait until it does."""
        self._is_paused = True
        self._read_or_not()

    def resume_reading(self) -> None:
        """Resume reading."""
        self._is_paused = self.pinged = False
        self._read_or_not()

    def pass_to(self, passer: Passer) -> None:
        """Pass text frames on from now on, instead of to the listener."""
        if self._parser is not None:
            self._parser.pass_to(passer)

    def send_frames(self, frames: bytes | bytearray) -> None:
        """Send frames that a client masked."""
        transport = self._transport
        if transport is not None and not self._ended and not transport.is_closing():
            transport.write(frames)

    def send_text(self, payload: bytes) -> None:
        """Send one text message."""
        self._send(TEXT, payload)

    def ping(self) -> None:
        """Send a ping; one that is still unanswered means that the upstream is gone."""
        if self._is_paused or self._parser is None:
            return
        if self.pinged:
            self.abort()
            return
        self.pinged = True
        self._send(PING, b"")

    def close(self, code: int, reason: str = "") -> None:
        """Close with a code; nothing more is reported."""
        self._listener = None
        self._stop_waiting()
        if self._transport is None or self._ended:
            return
        if self._parser is not None and not self._transport.is_closing():
            self._send(CLOSE, code.to_bytes(2, "big") + reason.encode())
        self._ended = True
        self._transport.close()
        if self._transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(UNSENT_SECONDS, self.abort)

    def fail(self, why: str) -> None:
        """Report that connecting failed."""
        self._end(None, why)

    def abort(self) -> None:
        """End at once and report it."""
        if self._transport is not None:
            self._transport.abort()

    def _wait(self, data: bytes) -> None:
        """Have received bytes processed in later iterations of the event loop."""
        self._data = self._data[self._start :] + data if self._data else data
        self._start = 0
        if len(self._data) > PASSED_PER_TURN_BYTES:
            self._waits = True
            self._read_or_not()
            self._report_held()
        if not self._ended:  # the report may have closed the connection
            self._budget.wait(Lane.SESSIONS, self)

    def _stop_waiting(self) -> bytes:
        """Stop waiting; return the bytes that were not processed."""
        data, self._data = self._data[self._start :], b""
        self._start = 0
        if data:
            self._budget.remove(self)
        return data

    def _read_or_not(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._is_paused or self._waits:
            transport.pause_reading()
        else:
            transport.resume_reading()

    def _report_held(self) -> None:
        transport, parser, listener = self._transport, self._parser, self._listener
        if transport is None or parser is None or listener is None:
            return
        waiting = len(self._data) - self._start
        held = waiting + parser.held_bytes + transport.get_write_buffer_size()
        self._holds = held > 0
        listener.on_held(held)

    def _take_response(self, response: HttpResponseParser, data: bytes) -> None:
        try:
            messages, upgraded, rest = response.feed_data(data)
        except HttpProcessingError:
            self._refuse("the upstream does not answer with HTTP")
            return
        if not messages:
            return
        self._response = None
        message = messages[0][0]
        if message.code != SWITCHING_PROTOCOLS or not upgraded:
            self._refuse(f"the upstream answers {message.code} {message.reason}")
            return
        if message.headers.get("Sec-WebSocket-Accept") != self._accept:
            self._refuse("the upstream's Sec-WebSocket-Accept does not fit")
            return
        self._parser = PassingParser(
            self._on_message,
            self._on_broken,
            message_limit_bytes=FRAME_LIMIT_BYTES,
            from_client=False,
        )
        if rest:
            self.data_received(rest)

    def _on_message(self, opcode: int, payload: bytes) -> None:
        self.pinged = False
        if opcode == TEXT:
            if self._listener is not None:
                self._listener.on_text(payload)
        elif opcode == PING:
            self._send(PONG, payload)
        elif opcode == CLOSE:
            self._closed = (close_code(payload) or 1005, payload[2:].decode())
            if self._transport is not None and not self._transport.is_closing():
                self._send(CLOSE, payload[:2])
                self._transport.close()
            self._end(*self._closed)

    def _on_broken(self, error: Exception) -> None:
        too_big = isinstance(error, BrokenFrame) and error.code is CloseCode.TOO_BIG
        self._end(CloseCode.TOO_BIG if too_big else None, "" if too_big else str(error))
        self.abort()

    def _refuse(self, why: str) -> None:
        self._end(None, why)
        self.abort()

    def _end(self, code: int | None, reason: str) -> None:
        listener, self._listener = self._listener, None
        self._ended = True
        if listener is not None:
            listener.on_end(code, reason)

    def _send(self, opcode: int, payload: bytes) -> None:
        transport = self._transport
        if transport is None or self._ended or transport.is_closing():
            return
        mask = os.urandom(_MASK_BYTES)
        masked = bytearray(payload)
        websocket_mask(mask, masked)
        transport.writelines([frame_header(opcode, len(payload), masked=True) + mask, masked])


def _upgrade_request(target: str, headers: Iterable[tuple[str, str]], key: bytes) -> bytes:
    lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    lines += [
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {key.decode()}",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")
