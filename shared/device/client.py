"""A device on a real socket (aiohttp): one DeviceClient is one connection.

    async with DeviceClient(url, key, CLI, token=token) as device:
        outcome = await device.connect()
        if isinstance(outcome, Admitted):
            response = await device.call("device.pair.list")

Every wait is limited by `Timeouts`. Proxies and netrc of the environment are ignored, cookies are
neither stored nor sent. `send_text`, `send_bytes` and `handshake` let a test send arbitrary data.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Self

import aiohttp

from shared.device.errors import (
    BrokenPeerError,
    DeviceClientError,
    DisconnectedError,
    NoAnswerError,
)
from shared.device.handshake import (
    Admitted,
    Close,
    Credentials,
    Event,
    Refused,
    connect_request,
    encode,
    read_challenge,
    read_frame,
    read_outcome,
    request,
)
from shared.device.mailbox import Mailbox
from shared.device.opening import Timeouts, new_session, open_socket
from shared.device.profile import CLI

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from shared.device.handshake import Challenge, Frame, Outcome, Response
    from shared.device.identity import DeviceKey
    from shared.device.profile import Profile

NO_CLOSE_CODE: Final = 1005
NO_CLOSE_FRAME: Final = 1006
KEPT_FRAMES_LIMIT: Final = 10_000
"""Maximum number of unread events and stray responses; the oldest are dropped first."""


class DeviceClient:
    """One connection of one device.

    Without a key, the client connects without a device. `credentials` replaces `token` and
    `device_token`; after admission it also holds the device token that was issued. A `session`
    passed in is shared and stays open.
    """

    def __init__(
        self,
        url: str,
        key: DeviceKey | None,
        profile: Profile = CLI,
        *,
        token: str | None = None,
        device_token: str | None = None,
        credentials: Credentials | None = None,
        headers: Mapping[str, str] | None = None,
        origin: str | None = None,
        timeouts: Timeouts | None = None,
        session: aiohttp.ClientSession | None = None,
        answer_pings: bool = True,
    ) -> None:
        self.url = url
        self.key = key
        self.profile = profile
        self.credentials = credentials or Credentials(token=token, device_token=device_token)
        self.timeouts = timeouts or Timeouts()
        self._headers = headers
        self._origin = origin
        self._answer_pings = answer_pings
        self._shared_session = session
        self._session: aiohttp.ClientSession | None = None
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._reader: asyncio.Task[None] | None = None
        self._awaited: dict[str, asyncio.Future[Response]] = {}
        self._events: Mailbox[Event] = Mailbox(KEPT_FRAMES_LIMIT)
        self._strays: Mailbox[Response] = Mailbox(KEPT_FRAMES_LIMIT)
        self._ended: asyncio.Future[Close] = asyncio.get_running_loop().create_future()
        self._broken: BrokenPeerError | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # Handshake.

    async def connect(self) -> Outcome:
        """Open the socket, answer the challenge and return the outcome.

        A refusal includes the close that followed. Raises UnreachableError, NoAnswerError, or
        BrokenPeerError.
        """
        challenge = await self.challenge()
        if isinstance(challenge, Close):
            return Refused(None, challenge)
        return await self.handshake(
            connect_request(challenge, self.key, self.profile, self.credentials)
        )

    async def open(self) -> None:
        """Open the socket without sending anything (idempotent); raises UnreachableError."""
        if self._ended.done():
            raise DisconnectedError(self._ended.result())
        if self._socket is not None:
            return
        self._socket = await open_socket(
            self._shared_session or self._own_session(),
            self.url,
            headers=self._headers,
            origin=self._origin,
            answer_pings=self._answer_pings,
            timeouts=self.timeouts,
        )
        self._reader = asyncio.create_task(self._read(self._socket), name="device-client-reader")

    async def challenge(self) -> Challenge | Close:
        """Open the socket if necessary; return the challenge, or the close received instead."""
        await self.open()
        try:
            first = await self.next_event(within=self.timeouts.challenge)
        except DisconnectedError as error:
            return error.close
        except NoAnswerError:
            raise NoAnswerError("challenge", self.timeouts.challenge) from None
        return read_challenge(first)

    async def handshake(self, frame: Frame) -> Outcome:
        """Send this `connect`, possibly altered, and return the outcome."""
        try:
            response = await self._exchange(frame, "answer to connect", self.timeouts.outcome)
        except DisconnectedError as error:
            return Refused(None, error.close)
        outcome = read_outcome(response)
        if isinstance(outcome, Admitted):
            if outcome.device_token:
                self.credentials = replace(self.credentials, device_token=outcome.device_token)
            return outcome
        try:
            return replace(outcome, close=await self.closed(within=self.timeouts.close))
        except NoAnswerError:
            return outcome

    # After the handshake.

    async def call(
        self, method: str, params: object = None, *, within: float | None = None
    ) -> Response:
        """Call a method; raises NoAnswerError or DisconnectedError.

        An error response is returned, not raised.
        """
        return await self._exchange(
            request(method, params), f"answer to {method}", within or self.timeouts.call
        )

    async def next_event(self, name: str | None = None, *, within: float | None = None) -> Event:
        """Return the next event, or the next one of this name, dropping earlier ones.

        Raises NoAnswerError, or DisconnectedError when the socket is closed and none is left.
        """
        seconds = within or self.timeouts.call
        async with _bounded(f"event {name or ''}".rstrip(), seconds):
            while True:
                event = await self._events.get()
                if name is None or event.name == name:
                    return event

    async def events(self) -> AsyncIterator[Event]:
        """Yield events until the socket closes."""
        try:
            while True:
                yield await self._events.get()
        except DisconnectedError:
            return

    async def next_stray(self, *, within: float | None = None) -> Response:
        """Return the next response that no call awaited, such as the one to a raw frame."""
        seconds = within or self.timeouts.call
        async with _bounded("response", seconds):
            return await self._strays.get()

    async def send(self, frame: Frame) -> None:
        """Send a frame of any form as JSON text."""
        await self.send_text(encode(frame))

    async def send_text(self, text: str) -> None:
        """Send any text frame; DisconnectedError if the socket is closed."""
        await self._send(text.encode(), aiohttp.WSMsgType.TEXT)

    async def send_bytes(self, data: bytes, *, binary: bool = True) -> None:
        """Send a binary frame, or the bytes as a text frame even if they are not UTF-8."""
        await self._send(data, aiohttp.WSMsgType.BINARY if binary else aiohttp.WSMsgType.TEXT)

    @property
    def is_open(self) -> bool:
        """Whether the socket was opened and has not been closed."""
        return self._socket is not None and not self._ended.done()

    async def closed(self, *, within: float | None = None) -> Close:
        """Wait for the close; raises NoAnswerError after `within` seconds, if given."""
        if within is None:
            return await asyncio.shield(self._ended)
        async with _bounded("close", within):
            return await asyncio.shield(self._ended)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the socket (idempotent).

        `closed` then returns this close, unless the gateway had closed before.
        """
        socket, self._socket = self._socket, None
        if socket is not None:
            await socket.close(code=code, message=reason.encode())
        if self._reader is not None:
            await self._reader
        if socket is not None:
            self._end(Close(code, reason))
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    # Internals.

    def _own_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = new_session()
        return self._session

    def _open_socket(self) -> aiohttp.ClientWebSocketResponse:
        if self._ended.done():
            raise DisconnectedError(self._ended.result())
        if self._socket is None:
            raise DeviceClientError("not opened")
        return self._socket

    async def _send(self, data: bytes, kind: aiohttp.WSMsgType) -> None:
        socket = self._open_socket()
        try:
            async with _bounded("room to send", self.timeouts.send):
                await socket.send_frame(data, kind)
        except aiohttp.ClientError as error:
            close = await self.closed(within=self.timeouts.close)
            raise DisconnectedError(close) from error

    async def _exchange(self, frame: Frame, awaited: str, seconds: float) -> Response:
        request_id = frame["id"]
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._awaited[request_id] = answer
        ends: list[asyncio.Future[Any]] = [answer, self._ended]
        try:
            await self.send(frame)
            async with _bounded(awaited, seconds):
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            del self._awaited[request_id]
        if answer.done():
            return answer.result()
        raise self._broken or DisconnectedError(self._ended.result())

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        try:
            while True:
                message = await socket.receive()
                if message.type in {aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY}:
                    self._take(read_frame(message.data))
                elif message.type is aiohttp.WSMsgType.CLOSE:
                    self._end(Close(message.data or NO_CLOSE_CODE, message.extra or ""))
                    return
                elif message.type not in {aiohttp.WSMsgType.PING, aiohttp.WSMsgType.PONG}:
                    return
        except BrokenPeerError as error:
            self._broken = error
            await socket.close(code=aiohttp.WSCloseCode.PROTOCOL_ERROR)
        finally:
            # If this side closes, close() records the result.
            if self._socket is not None:
                self._end(Close(NO_CLOSE_FRAME))

    def _take(self, frame: Event | Response) -> None:
        if isinstance(frame, Event):
            self._events.put(frame)
        elif (answer := self._awaited.get(frame.id)) is not None and not answer.done():
            answer.set_result(frame)
        else:
            self._strays.put(frame)

    def _end(self, close: Close) -> None:
        if not self._ended.done():
            self._ended.set_result(close)
            error = self._broken or DisconnectedError(close)
            self._events.end(error)
            self._strays.end(error)


@asynccontextmanager
async def _bounded(awaited: str, seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise NoAnswerError(awaited, seconds) from None
