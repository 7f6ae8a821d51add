"""The life of a socket: challenge, handshake, frames, close.

The pure handshake decides; this module does the I/O. Everything runs in callbacks: a socket has no
task and no timer of its own.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from services.gateway import log_events
from services.gateway.handshake.outcome import Accepted
from services.gateway.websocket.frame_parser import CLOSE, PING, PONG, TEXT, BrokenFrame, close_code
from services.gateway.websocket.frames import pong_frame, text_frame
from services.gateway.websocket.protocol import PREAUTH_BUFFER_LIMIT_BYTES
from shared.bus.errors import Unavailable
from shared.clock import NS_PER_MS
from shared.protocol import refusals
from shared.protocol.closing import CloseCode
from shared.protocol.events import challenge
from shared.protocol.frames import failure
from shared.protocol.hello import hello_ok
from shared.protocol.limits import (
    BUFFERED_LIMIT_BYTES,
    DEVICELESS_FRAME_LIMIT_BYTES,
    OWN_FRAME_LIMIT_BYTES,
    PREAUTH_FRAME_LIMIT_BYTES,
    QUEUED_FRAMES_LIMIT,
)
from shared.protocol.refusals import Refusal
from shared.rpc.messages import Admitted, AuthorizeDevice, ReportSecret

if TYPE_CHECKING:
    from services.gateway.connections.connection import Connection
    from services.gateway.handshake.handshake import Handshake
    from services.gateway.handshake.outcome import RequestInfo, Session
    from services.gateway.session.context import SessionContext
    from services.gateway.websocket.protocol import SocketProtocol
    from shared.rpc.messages import Answer

RETRY_MIN_MS: Final = 500
RETRY_MAX_MS: Final = 5_000
"""Bounds of the random `retryAfterMs` of UNAVAILABLE; the spread avoids a reconnect storm."""

SHED_OUTPUT_BYTES: Final = 65_536
"""With more than this unread, a socket is closed without waiting: its client does not read."""

_QUESTIONS: Final = (AuthorizeDevice, ReportSecret)
_OUTCOMES: Final = (Accepted, Refusal)


class SessionHandler:
    """Serves one socket from the upgrade until its transport is closed."""

    __slots__ = (
        "_asked",
        "_began",
        "_connection",
        "_context",
        "_handshake",
        "_overdue",
        "_queued",
        "_request",
        "socket",
    )
    _frame_limit_bytes = OWN_FRAME_LIMIT_BYTES

    def __init__(
        self,
        context: SessionContext,
        connection: Connection,
        handshake: Handshake,
        request: RequestInfo,
    ) -> None:
        self._context = context
        self._connection = connection
        self._handshake: Handshake | None = handshake
        self._request = request
        self._asked = False
        self._overdue = False
        self._queued: list[tuple[int, bytes]] = []
        self._began = context.clock.monotonic()
        self.socket: SocketProtocol | None = None
        """The client's end, to stop reading from it."""

    @property
    def is_unauthenticated(self) -> bool:
        """Whether the client is not admitted."""
        return self._connection.session is None

    @property
    def limit_key(self) -> str:
        """The key that the client's address counts by."""
        return self._connection.limit_key

    @property
    def message_limit_bytes(self) -> int:
        """The maximum size of a message that this client may send now."""
        session = self._connection.session
        if session is None:
            return PREAUTH_BUFFER_LIMIT_BYTES
        return self._frame_limit_bytes if session.device_id else DEVICELESS_FRAME_LIMIT_BYTES

    def send_challenge(self, upgraded: bytes) -> None:
        """Send the response to the upgrade and the challenge, in one write."""
        if self._handshake is not None:
            sent = challenge(self._handshake.nonce, self._context.clock.wall_ns() // NS_PER_MS)
            self._connection.transport.write(upgraded + text_frame(sent))

    def on_message(self, opcode: int, payload: bytes) -> None:
        """Handle a message from the peer."""
        context, connection = self._context, self._connection
        connection.pinged = False
        if connection.transport.get_write_buffer_size() > BUFFERED_LIMIT_BYTES:
            context.connections.close_if_slow(connection)
        if opcode < CLOSE:
            if connection.session is not None:
                self._serve(connection.session, opcode, payload)
            elif self._asked:
                # One frame over the limit is kept, so that `_finish` sees the overflow.
                if len(self._queued) <= QUEUED_FRAMES_LIMIT:
                    self._queued.append((opcode, payload))
            elif self._handshake is not None and not connection.stopped:
                self._on_first_frame(self._handshake, opcode, payload)
        elif opcode == PING:
            if context.connections.serves(connection):
                connection.transport.write(pong_frame(payload))
        elif opcode != PONG:
            # The parser has checked the code; a close frame may come without one.
            code = close_code(payload) or CloseCode.NORMAL
            context.connections.reply_close(connection, code)

    def on_protocol_error(self, error: Exception) -> None:
        """Close a connection whose peer violated the protocol; nothing more is read from it.

        The transport stays open for a moment: closing it while the peer still sends would reset the
        connection, and the peer might not receive the close frame.
        """
        if isinstance(error, BrokenFrame):
            self._context.connections.close(self._connection, error.code, "")
        else:
            self._context.log.error("message failed", exc_info=error)
            self._context.connections.close(self._connection, CloseCode.TRY_AGAIN, "")

    def on_preauth_overflow(self) -> None:
        """Close an unauthenticated connection that sent too many bytes."""
        self._context.connections.close(self._connection, CloseCode.TOO_BIG, "")

    def on_overdue(self) -> None:
        """Refuse the first frame as soon as it is read: it could hardly be answered in time."""
        self._overdue = True

    def on_progress(self) -> None:
        """Note that a part of a message arrived or was read: until its end there is no pong."""
        self._connection.pinged = False

    def on_shed(self, reason: str) -> None:
        """Close a connection that holds too much memory, or holds it for too long."""
        self._context.connections.close(self._connection, CloseCode.TRY_AGAIN, reason)
        if self._connection.transport.get_write_buffer_size() > SHED_OUTPUT_BYTES:
            self._connection.transport.abort()

    def pause_writing(self) -> None:
        """Read no requests from a client that does not read the responses."""
        if self.socket is not None:
            self.socket.hold_reading()

    def resume_writing(self) -> None:
        """Read from the client again."""
        if self.socket is not None:
            self.socket.release_reading()

    def on_lost(self) -> None:
        """Log the end of the session and remove the connection from the hub."""
        connection = self._connection
        if self._handshake is not None and not self._asked:
            self._log_outcome(self._handshake, None)
        elif connection.session is not None:
            self._log_close(connection.session)
        self._context.connections.lost(connection)

    def _on_first_frame(self, handshake: Handshake, opcode: int, payload: bytes) -> None:
        context = self._context
        if len(payload) > PREAUTH_FRAME_LIMIT_BYTES:
            self._finish(refusals.TOO_BIG)
            return
        if opcode != TEXT:
            self._finish(refusals.INVALID_FRAME)
            return
        if self._overdue:
            context.metrics.turned_away.labels("handshake").inc()
            handshake.read_id(payload)
            self._finish(Unavailable("overloaded"))
            return
        effect = handshake.on_frame(payload, now_ms=context.clock.wall_ns() // NS_PER_MS)
        if isinstance(effect, _QUESTIONS):
            self._asked = True
            context.approvals.request(effect, self._finish)
        else:
            self._finish(effect)

    def _finish(self, result: Answer | Unavailable | Accepted | Refusal) -> None:
        """Carry out the outcome, or approval's answer: admit the client, or refuse it.

        An admitted client is registered, gets hello-ok, and its frames that came early are served.
        """
        handshake = self._handshake
        accepted = None if handshake is None else self._accepted(handshake, result)
        if handshake is None or accepted is None:
            self.report_setup(result, delivered=False)
            return
        context, connection = self._context, self._connection
        session = handshake.session(accepted)
        self._handshake = None
        context.access_log.log(
            handshake, self._request, self._began, accepted, closed_with=connection.closed_with
        )
        context.connections.admit(connection, session, accepted.client)
        hello = self._hello_ok(handshake, accepted)
        connection.transport.write(text_frame(hello))
        self.report_setup(result, delivered=not connection.transport.is_closing())
        queued, self._queued = self._queued, []
        for opcode, payload in queued:
            self._serve(session, opcode, payload)

    def _accepted(
        self, handshake: Handshake, result: Answer | Unavailable | Accepted | Refusal
    ) -> Accepted | None:
        """Return the outcome if it is to admit the client; else refuse it, unless it has left."""
        if isinstance(result, Unavailable):
            outcome: Accepted | Refusal = _unavailable(handshake, result)
        elif isinstance(result, _OUTCOMES):
            outcome = result
        else:
            outcome = handshake.on_answer(result)
        self._asked = False
        if isinstance(outcome, Refusal):
            self._refuse(handshake, outcome)
        elif len(self._queued) > QUEUED_FRAMES_LIMIT:
            self._refuse(handshake, refusals.TOO_MANY_FRAMES)
        elif self._connection.stopped:
            self._log_outcome(handshake, None)
        elif outcome.answer is not None or self._has_lease(handshake):
            return outcome
        self._queued = []
        return None

    def _hello_ok(self, handshake: Handshake, accepted: Accepted) -> bytes:
        """Return this gateway's own hello-ok."""
        context = self._context
        return hello_ok(
            accepted.frame_id,
            protocol=accepted.protocol,
            version=context.identity.version,
            connection_id=handshake.connection_id,
            features=context.features[accepted.protocol],
            grant=accepted.grant,
            uptime_ms=int((context.clock.monotonic() - context.started_at) * 1000),
            max_payload_bytes=self.message_limit_bytes,
        )

    def report_setup(self, result: object, *, delivered: bool) -> None:
        """Report whether hello-ok was sent, if the answer used a setup code up."""
        if isinstance(result, Admitted) and result.setup_id:
            self._context.setup.report(result.setup_id, delivered=delivered)

    def _has_lease(self, handshake: Handshake) -> bool:
        """Return whether clients may be admitted without a question; else refuse this one."""
        try:
            self._context.approvals.require_lease()
        except Unavailable as error:
            self._refuse(handshake, _unavailable(handshake, error))
            return False
        return True

    def _refuse(self, handshake: Handshake, refusal: Refusal) -> None:
        self._log_outcome(handshake, refusal)
        frames = b""
        if refusal.error is not None:
            frames = text_frame(failure(handshake.frame_id, refusal.error))
        self._context.connections.close(
            self._connection, refusal.close_code, refusal.close_reason, frames=frames
        )

    def _log_outcome(self, handshake: Handshake, outcome: Accepted | Refusal | None) -> None:
        """Log the outcome; called before the response is sent to the client."""
        self._handshake = None
        self._context.access_log.log(
            handshake, self._request, self._began, outcome, closed_with=self._connection.closed_with
        )

    def _serve(self, session: Session, opcode: int, payload: bytes) -> None:
        """Serve a frame of an admitted client."""
        context, connection = self._context, self._connection
        if opcode != TEXT or not context.connections.serves(connection):
            return
        reply = context.dispatcher.on_frame(session, payload)
        if reply.call is not None:
            context.forwarder.start(connection, session, reply.call)
        if reply.frame is not None:
            connection.send(reply.frame)
        if reply.close is not None:
            context.connections.close(connection, *reply.close)

    def _log_close(self, session: Session) -> None:
        """Log why an admitted connection was closed, unless the client closed it normally."""
        closed_with = self._connection.closed_with
        if closed_with is not None and closed_with[0] != CloseCode.NORMAL:
            code, reason = closed_with
            self._context.log.info(
                log_events.DISCONNECTED.name,
                connection=session.connection_id,
                device=session.device_id,
                address=session.address,
                code=int(code),
                reason=reason,
            )


def _unavailable(handshake: Handshake, error: Unavailable) -> Refusal:
    return handshake.on_unavailable(
        error.reason,
        error.dependency,
        retry_after_ms=random.randint(RETRY_MIN_MS, RETRY_MAX_MS),  # noqa: S311 (spread)
    )
