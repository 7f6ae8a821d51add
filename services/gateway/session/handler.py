"""The life of a socket: challenge, handshake, frames, close.

The pure handshake decides; this module does the I/O. Everything runs in callbacks: a socket has no
task and no timer of its own.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from services.gateway import log_events
from services.gateway.handshake.session import Session
from services.gateway.websocket.frame_parser import CLOSE, PING, PONG, TEXT, BrokenFrame, close_code
from services.gateway.websocket.frames import pong_frame, text_frame
from shared.bus.errors import Unavailable
from shared.protocol import refusals
from shared.protocol.closing import CloseCode, answer_to_close
from shared.protocol.events import challenge
from shared.protocol.frames import failure
from shared.protocol.hello import hello_ok
from shared.protocol.limits import PREAUTH_FRAME_LIMIT_BYTES, QUEUED_FRAMES_LIMIT
from shared.protocol.refusals import Refusal
from shared.rpc.messages import AuthorizeDevice, ReportSecret

if TYPE_CHECKING:
    from services.gateway.connections.connection import Connection
    from services.gateway.handshake.handshake import Handshake
    from services.gateway.handshake.outcome import Accepted, Effect, RequestInfo
    from services.gateway.session.context import SessionContext
    from shared.rpc.messages import Answer

RETRY_LEAST_MS: Final = 500
RETRY_MOST_MS: Final = 5_000
"""Bounds of the random `retryAfterMs` of UNAVAILABLE; the spread avoids a reconnect storm."""

_QUESTIONS: Final = (AuthorizeDevice, ReportSecret)


class SessionHandler:
    """Serves one socket from the upgrade until its transport is closed."""

    __slots__ = ("_asked", "_began", "_connection", "_handshake", "_host", "_peer", "_queued")

    def __init__(
        self, host: SessionContext, connection: Connection, handshake: Handshake, peer: RequestInfo
    ) -> None:
        self._host = host
        self._connection = connection
        self._handshake: Handshake | None = handshake
        self._peer = peer
        self._asked = False
        self._queued: list[tuple[int, bytes]] = []
        self._began = host.clock.monotonic()

    @property
    def is_unauthenticated(self) -> bool:
        """Whether the client is not admitted."""
        return self._connection.session is None

    def send_challenge(self, upgraded: bytes) -> None:
        """Send the response to the upgrade and the challenge, in one write."""
        if self._handshake is not None:
            sent = challenge(self._handshake.nonce, self._host.clock.wall_ms())
            self._connection.transport.write(upgraded + text_frame(sent))

    def on_message(self, opcode: int, payload: bytes) -> None:
        """Handle a message from the peer."""
        host, connection = self._host, self._connection
        connection.pinged = False
        host.connections.close_if_slow(connection)
        if opcode < CLOSE:
            self._on_frame(opcode, payload)
        elif opcode == PING:
            if host.connections.serves(connection):
                connection.transport.write(pong_frame(payload))
        elif opcode != PONG:
            host.connections.reply_close(connection, answer_to_close(close_code(payload)))

    def on_protocol_error(self, error: Exception) -> None:
        """Close a connection whose peer violated the protocol; nothing more is read from it.

        The transport stays open for a moment: closing it while the peer still sends would reset the
        connection, and the peer might not receive the close frame.
        """
        if isinstance(error, BrokenFrame):
            self._host.connections.close(self._connection, error.code, "")
        else:
            self._host.log.error("message failed", exc_info=error)
            self._host.connections.close(self._connection, CloseCode.TRY_AGAIN, "")

    def on_preauth_overflow(self) -> None:
        """Close an unauthenticated connection that sent too many bytes."""
        self._host.connections.close(self._connection, CloseCode.TOO_BIG, "")

    def on_lost(self) -> None:
        """Log the end of the session and remove the connection from the hub."""
        connection = self._connection
        if self._handshake is not None and not self._asked:
            self._log_outcome(self._handshake, None)
        elif connection.session is not None:
            self._log_close(connection.session)
        self._host.connections.lost(connection)

    def _on_frame(self, opcode: int, payload: bytes) -> None:
        session = self._connection.session
        if session is not None:
            self._serve(session, opcode, payload)
        elif self._asked:
            # One frame over the limit is kept, so that `_finish` sees the overflow.
            if len(self._queued) <= QUEUED_FRAMES_LIMIT:
                self._queued.append((opcode, payload))
        elif self._handshake is not None and not self._connection.closing:
            self._on_first_frame(self._handshake, opcode, payload)

    def _on_first_frame(self, handshake: Handshake, opcode: int, payload: bytes) -> None:
        effect = self._evaluate(handshake, opcode, payload)
        if isinstance(effect, _QUESTIONS):
            self._asked = True
            self._host.approvals.request(effect, self._on_answer)
        else:
            self._finish(handshake, effect)

    def _evaluate(self, handshake: Handshake, opcode: int, payload: bytes) -> Effect:
        if len(payload) > PREAUTH_FRAME_LIMIT_BYTES:
            return refusals.TOO_BIG
        if opcode != TEXT:
            return refusals.INVALID_FRAME
        return handshake.on_frame(payload, now_ms=self._host.clock.wall_ms())

    def _on_answer(self, answer: Answer | Unavailable) -> None:
        handshake = self._handshake
        if handshake is None:
            return
        if isinstance(answer, Unavailable):
            self._finish(handshake, _unavailable(handshake, answer))
        else:
            self._finish(handshake, handshake.on_answer(answer))

    def _finish(self, handshake: Handshake, verdict: Accepted | Refusal) -> None:
        """Admit or refuse the client, unless the connection has closed in the meantime."""
        connection, queued = self._connection, self._queued
        self._asked, self._queued = False, []
        if isinstance(verdict, Refusal):
            self._refuse(handshake, verdict)
        elif len(queued) > QUEUED_FRAMES_LIMIT:
            self._refuse(handshake, refusals.TOO_MANY_FRAMES)
        elif connection.closing:
            self._log_outcome(handshake, None)
        else:
            if verdict.answer is None:
                try:
                    self._host.approvals.require_lease()
                except Unavailable as missing:
                    self._refuse(handshake, _unavailable(handshake, missing))
                    return
            self._log_outcome(handshake, verdict)
            session = self._admit(handshake, verdict)
            for opcode, payload in queued:
                self._serve(session, opcode, payload)

    def _refuse(self, handshake: Handshake, refusal: Refusal) -> None:
        self._log_outcome(handshake, refusal)
        told = b""
        if refusal.error is not None:
            told = text_frame(failure(handshake.frame_id, refusal.error))
        self._host.connections.close(
            self._connection, refusal.close_code, refusal.close_reason, told=told
        )

    def _log_outcome(self, handshake: Handshake, verdict: Accepted | Refusal | None) -> None:
        """Log the outcome; called before the response is sent to the client."""
        self._handshake = None
        self._host.attempts.log(
            handshake, self._peer, self._began, verdict, closed_with=self._connection.closed_with
        )

    def _admit(self, handshake: Handshake, welcome: Accepted) -> Session:
        host, grant = self._host, welcome.grant
        session = Session(
            connection_id=handshake.connection_id,
            protocol=welcome.protocol,
            role=grant.role,
            scopes=grant.scopes,
            device_id=welcome.device_id,
            method=grant.method,
            address=self._peer.address,
            epoch=welcome.answer.epoch if welcome.answer else "",
        )
        host.connections.admit(self._connection, session, welcome.client)
        self._connection.send(
            hello_ok(
                welcome.frame_id,
                protocol=welcome.protocol,
                version=host.identity.version,
                connection_id=handshake.connection_id,
                features=host.features[welcome.protocol],
                grant=grant,
                uptime_ms=host.uptime_ms(),
            )
        )
        return session

    def _serve(self, session: Session, opcode: int, payload: bytes) -> None:
        """Serve a frame of an admitted client."""
        host, connection = self._host, self._connection
        if opcode != TEXT or not host.connections.serves(connection):
            return
        turn = host.methods.on_frame(session, payload)
        if turn.call is not None:
            host.calls.start(connection, session, turn.call)
        if turn.frame is not None:
            connection.send(turn.frame)
        if turn.close is not None:
            host.connections.close(connection, *turn.close)

    def _log_close(self, session: Session) -> None:
        """Log why an admitted connection was closed, unless the client closed it normally."""
        closed_with = self._connection.closed_with
        if closed_with is not None and closed_with[0] != CloseCode.NORMAL:
            code, reason = closed_with
            self._host.log.info(
                log_events.DISCONNECTED.name,
                connection=session.connection_id,
                device=session.device_id,
                code=int(code),
                reason=reason,
            )


def _unavailable(handshake: Handshake, missing: Unavailable) -> Refusal:
    return handshake.on_unavailable(
        missing.reason,
        missing.dependency,
        retry_after_ms=random.randint(RETRY_LEAST_MS, RETRY_MOST_MS),  # noqa: S311 (spread)
    )
