"""A relayed connection: the usual handshake, then frames to and from the upstream.

The client's proof is over the challenge that it got. It is good for the upstream too only if that
challenge was the upstream's, so a client from a known address waits for it; all others get our own
challenge, are judged by it, and have to come back once they are admitted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from services.gateway import log_events
from services.gateway.relay.joining import JOIN_SECONDS, JOINS, Stage, Step, next_step
from services.gateway.relay.link import UpstreamLink
from services.gateway.relay.opening import OPEN_SECONDS
from services.gateway.relay.passing import DownwardPasser, UpwardPasser
from services.gateway.relay.relay import RETRY_AWAY_MS
from services.gateway.relay.rules import rewriting
from services.gateway.relay.rules.connect_response import Refused
from services.gateway.relay.rules.headers import CLIENT_USER, COMMAND_USER
from services.gateway.relay.rules.rewriting import Route
from services.gateway.session.handler import SessionHandler
from services.gateway.websocket.frame_parser import BINARY, TEXT
from services.gateway.websocket.frames import text_frame
from services.gateway.websocket.protocol import PREAUTH_BUFFER_LIMIT_BYTES
from shared.protocol import refusals
from shared.protocol.closing import CloseCode
from shared.protocol.events import CHALLENGE
from shared.protocol.frames import UNKNOWN_ID, ErrorBody, failure
from shared.protocol.limits import FRAME_LIMIT_BYTES, QUEUED_FRAMES_LIMIT
from shared.rpc.messages import BOOTSTRAP_TOKEN

if TYPE_CHECKING:
    from services.gateway.connections.connection import Connection
    from services.gateway.handshake.handshake import Handshake
    from services.gateway.handshake.outcome import Accepted, RequestInfo, Session
    from services.gateway.relay.relay import Relay
    from services.gateway.relay.rules.headers import ForwardedClient
    from services.gateway.relay.rules.rewriting import Joined
    from services.gateway.relay.upstream.socket import UpstreamSocket
    from services.gateway.session.context import SessionContext
    from shared.bus.errors import Unavailable
    from shared.rpc.messages import Answer

_CHALLENGE_MARK: Final = f'"{CHALLENGE}"'.encode()
_BROKEN: Final = ErrorBody("INVALID_REQUEST", "invalid request frame: not readable JSON")


class RelayHandler(SessionHandler):
    """One relayed connection, and the listener of its upstream socket."""

    __slots__ = (
        "_asked_at",
        "_connect",
        "_downward",
        "_is_delayed",
        "_link",
        "_relay",
        "_stage",
        "_upward",
        "_welcome",
    )
    _frame_limit_bytes = FRAME_LIMIT_BYTES

    def __init__(
        self,
        host: SessionContext,
        connection: Connection,
        handshake: Handshake,
        peer: RequestInfo,
        *,
        relay: Relay,
        client: ForwardedClient,
    ) -> None:
        super().__init__(host, connection, handshake, peer)
        self._relay = relay
        self._link = UpstreamLink(relay, self, client, limit_key=connection.limit_key)
        self._stage = Stage.CHALLENGED
        self._is_delayed = False
        """Whether the challenge had to wait: the client may connect without one meanwhile."""
        self._connect = b""
        """The client's first frame, which is forwarded once it is admitted."""
        self._welcome: Accepted | None = None
        self._asked_at = 0.0
        """When `connect` went upstream, on the relay's clock."""
        self._upward: UpwardPasser | None = None
        self._downward: DownwardPasser | None = None
        """Both pass frames on, from the upstream's hello-ok until one side ends."""

    # From the client's side.

    @property
    def message_limit_bytes(self) -> int:
        """The maximum size of a message; smaller before hello-ok, when it would be queued."""
        if self._stage is not Stage.JOINED:
            return PREAUTH_BUFFER_LIMIT_BYTES
        return super().message_limit_bytes

    def send_challenge(self, upgraded: bytes) -> None:
        """Answer the upgrade; a client from a known address gets the upstream's challenge."""
        relay, peer = self._relay, self._request
        if relay.knows(self._connection.limit_key, direct_loopback=peer.direct_loopback):
            self._connection.transport.write(upgraded)
            self._stage = Stage.OPENING
            self._is_delayed = True
            if self._link.open(CLIENT_USER, OPEN_SECONDS):
                return
            upgraded = b""
        self._stage = Stage.CHALLENGED
        super().send_challenge(upgraded)

    def on_lost(self) -> None:
        """Disconnect from the upstream as well."""
        self._leave(rewriting.code_for_upstream(None))
        super().on_lost()

    def on_closing(self, code: int | None) -> None:
        """Close the upstream's side with the client's close code."""
        self._leave(rewriting.code_for_upstream(code))

    @property
    def is_full(self) -> bool:
        """Whether the upstream does not read, so that nothing is read from the client."""
        return self.socket is not None and self.socket.is_held

    def ping(self) -> None:
        """Ping the upstream on this connection's behalf."""
        if self._link.socket is not None:
            self._link.socket.ping()

    def pause_writing(self) -> None:
        """Stop reading from the upstream, because the client does not read."""
        self._link.pause_reading()

    def resume_writing(self) -> None:
        """Resume reading from the upstream."""
        self._link.resume_reading()

    def _on_first_frame(self, handshake: Handshake, opcode: int, payload: bytes) -> None:
        self._connect = payload
        if self._is_delayed and opcode == TEXT:
            frame_id = rewriting.premature_connect(
                payload, challenged=self._stage is not Stage.OPENING
            )
            if frame_id is not None:
                handshake.frame_id = frame_id
                self._end_handshake(refusals.starting(RETRY_AWAY_MS, routine=False))
                return
        super()._on_first_frame(handshake, opcode, payload)

    def _finish(self, result: Answer | Unavailable | Accepted | refusals.Refusal) -> None:
        """Register an admitted client in this turn of the loop, then connect it to the upstream."""
        handshake = self._handshake
        welcome = None if handshake is None else self._accepted(handshake, result)
        if handshake is None or welcome is None:
            self.report_setup(result, delivered=False)
            return
        relay, link = self._relay, self._link
        relay.learn([self._connection.limit_key])
        if welcome.grant.method == BOOTSTRAP_TOKEN:
            self._hand_over_tokens(handshake, welcome)
            return
        if welcome.device_id and link.socket is None:
            self._come_back()
            return
        self._context.connections.admit(
            self._connection, handshake.session(welcome), welcome.client, backend=self
        )
        self._welcome = welcome
        if welcome.device_id and link.socket is not None:
            link.wait(JOIN_SECONDS)
            self._join(link.socket, rewriting.upstream_connect(self._connect))
            return
        link.drop()
        self._stage = Stage.OPENING_AS_COMMAND
        if not link.open(COMMAND_USER, JOIN_SECONDS, welcome.grant.scopes):
            self._come_back()

    def _hand_over_tokens(self, handshake: Handshake, welcome: Accepted) -> None:
        """Send our own hello-ok to a device with a setup code, and let it reconnect.

        Its signature covers the code, so the upstream could check it only if it saw the code. And
        the code may be used up: whether or not the upstream answers, the device needs its tokens
        now. It reconnects with them, and is relayed like any other device.
        """
        connection = self._connection
        self._leave(CloseCode.NORMAL)
        delivered = not connection.transport.is_closing()
        hello = self._hello_ok(handshake, welcome)
        self._log_outcome(handshake, welcome)
        self._context.connections.close(
            connection, CloseCode.RESTART, "service restart", frames=text_frame(hello)
        )
        self.report_setup(welcome.answer, delivered=delivered)

    def _serve(self, session: Session, opcode: int, payload: bytes) -> None:
        """Forward a frame of an admitted client, or serve it here."""
        connections, connection = self._context.connections, self._connection
        upward = self._upward
        if opcode == BINARY:
            connections.close(connection, CloseCode.UNSUPPORTED, "")
        elif upward is None:
            self._queue(opcode, payload)
        elif connections.serves(connection):
            route = rewriting.route_of(payload)
            if route is Route.HERE:
                super()._serve(session, opcode, payload)
            elif route is Route.BROKEN:
                connection.send(failure(UNKNOWN_ID, _BROKEN))
            elif route is Route.REMOVES_NODE:
                self._remove_node(session, payload, upward)
            else:
                upward.pass_text(payload)

    def _queue(self, opcode: int, payload: bytes) -> None:
        """Keep a frame that came before hello-ok; what is queued does not count as held memory."""
        queued, connections = self._queued, self._context.connections
        queued_bytes = len(payload) + sum(len(frame) for _, frame in queued)
        if len(queued) >= QUEUED_FRAMES_LIMIT:
            refusal = refusals.TOO_MANY_FRAMES
            connections.close(self._connection, refusal.close_code, refusal.close_reason)
        elif queued_bytes > PREAUTH_BUFFER_LIMIT_BYTES:
            connections.close(self._connection, CloseCode.TOO_BIG, "")
        else:
            queued.append((opcode, payload))

    # From the upstream's side.

    def on_text(self, payload: bytes) -> None:
        """Handle a text message from the upstream."""
        if self._downward is not None:
            self._downward.pass_text(payload)
        elif self._stage is Stage.JOINING:
            self._on_response(payload)
        elif _CHALLENGE_MARK in payload:
            self._on_challenge(payload)

    def on_end(self, code: int | None, reason: str) -> None:
        """Close the client as the upstream closed; before hello-ok, tell it to retry."""
        stage = self._stage
        self._link.ended()
        if stage is Stage.OPENING:
            self._challenge_ourselves()
        elif stage is Stage.JOINED:
            self._ended()
            ours, why = rewriting.code_for_client(code)
            self._context.connections.close(self._connection, ours, reason if why is None else why)
        elif stage in JOINS:
            self._come_back()

    def on_held(self, held_bytes: int) -> None:
        """Count what the upstream's side holds towards this connection."""
        if self.socket is not None:
            self.socket.hold_upstream(held_bytes)

    def on_full(self) -> None:
        """Stop reading from the client, because the upstream does not read."""
        if self.socket is not None:
            self.socket.hold_reading()

    def on_drained(self) -> None:
        """Resume reading from the client."""
        if self.socket is not None:
            self.socket.release_reading()

    def on_timeout(self) -> None:
        """Continue without the upstream, which took too long."""
        if self._stage in JOINS and self._link.socket is not None:
            self._relay.upstream.failed("no hello-ok in time")
        self._do_without_upstream()

    def _do_without_upstream(self) -> None:
        """Send the gateway's own challenge; a client that is already admitted is told to retry."""
        stage = self._stage
        self._link.drop()
        if stage is Stage.OPENING:
            self._challenge_ourselves()
        elif stage in JOINS:
            self._come_back()

    def _on_challenge(self, payload: bytes) -> None:
        link, upstream, handshake = self._link, self._relay.upstream, self._handshake
        if link.socket is None or handshake is None:
            return
        link.opened()
        try:
            asked = rewriting.read_challenge(payload)
        except msgspec.MsgspecError:
            upstream.failed("its challenge is not readable")
            self._do_without_upstream()
            return
        upstream.reached()
        agrees = upstream.note_clock(asked.ts)
        if self._stage is Stage.OPENING_AS_COMMAND:  # it signs nothing, so clocks do not matter
            self._join(link.socket, rewriting.deviceless_connect(self._connect))
        elif self._stage is Stage.OPENING and not agrees:
            self._do_without_upstream()
        elif self._stage is Stage.OPENING:
            self._relay.stop_waiting(self)
            handshake.nonce = asked.nonce
            self._stage = Stage.CHALLENGED
            self._connection.send(payload)

    def _join(self, upstream: UpstreamSocket, connect: bytes) -> None:
        """Send the `connect` of an admitted client."""
        self._stage = Stage.JOINING
        self._link.admitted()
        self._asked_at = self._relay.clock.monotonic()
        upstream.send_text(connect)

    def _on_response(self, payload: bytes) -> None:
        """Handle the upstream's response to `connect`."""
        handshake, welcome, session = self._handshake, self._welcome, self._connection.session
        upstream = self._link.socket
        if handshake is None or welcome is None or session is None or upstream is None:
            return
        step = next_step(payload, welcome, self._relay.pairing, retry=self._come_back)
        if step is Step.PAIR:
            self._stage = Stage.PAIRING
            self._link.drop()
            self._link.wait(JOIN_SECONDS)
        elif step is Step.RETRY:
            self._come_back()
        elif isinstance(step, Refused):
            self._on_refusal(step, welcome)
        elif step is not None:
            self._pass_frames(upstream)
            self._on_joined(step, handshake, welcome, session)

    def _on_joined(
        self, joined: Joined, handshake: Handshake, welcome: Accepted, session: Session
    ) -> None:
        """Send the client its hello-ok, and serve the frames that came early."""
        self._relay.stop_waiting(self)
        self._relay.upstream.reached(joined.version)
        self._relay.joined += 1
        took = self._relay.clock.monotonic() - self._asked_at
        self._context.metrics.upstream_seconds.observe(took)
        self._stage = Stage.JOINED
        self._log_outcome(handshake, welcome)
        self._connection.send(joined.frame)
        self._context.connections.unmute(self._connection)
        queued, self._queued = self._queued, []
        for opcode, frame in queued:
            self._serve(session, opcode, frame)

    def _on_refusal(self, refused: Refused, welcome: Accepted) -> None:
        self._context.metrics.upstream_refusals.labels(refused.label).inc()
        self._context.log.warning(
            log_events.UPSTREAM_REFUSED.name,
            connection=self._handshake.connection_id if self._handshake else "",
            device=welcome.device_id,
            error=refused.code,
            message=refused.message,
        )
        refusal = refused.refusal
        if refusal is None:
            self._come_back()
        else:
            self._end_handshake(refusal)

    def _pass_frames(self, upstream: UpstreamSocket) -> None:
        """Pass on frames that need no change without decoding them."""
        both = self._connection, self._context.connections, upstream, self._relay.counts
        self._upward, self._downward = UpwardPasser(*both), DownwardPasser(*both)
        if self.socket is not None:
            self.socket.pass_to(self._upward)
        upstream.pass_to(self._downward)

    # Both.

    def _challenge_ourselves(self) -> None:
        self._relay.stop_waiting(self)
        self._stage = Stage.CHALLENGED
        if not self._connection.closing:
            super().send_challenge(b"")

    def _come_back(self) -> None:
        """Tell an admitted client to retry: the upstream will be ready for it then."""
        relay = self._relay
        self._end_handshake(
            refusals.starting(relay.retry_after_ms, routine=not relay.upstream.refuses_devices)
        )

    def _end_handshake(self, refusal: refusals.Refusal) -> None:
        handshake = self._handshake
        self._leave(CloseCode.NORMAL)
        if handshake is not None:
            self._refuse(handshake, refusal.with_detail("connectionId", handshake.connection_id))

    def _leave(self, code: int) -> None:
        """Close the upstream's side and release this connection's share of the relay."""
        self._link.drop(code)
        self._ended()

    def _ended(self) -> None:
        if self._stage is Stage.JOINED:
            self._relay.joined -= 1
        self._stage = Stage.ENDED
        self._upward = self._downward = None

    def _remove_node(self, session: Session, payload: bytes, upward: UpwardPasser) -> None:
        """Revoke the node role here, then pass the frame on.

        The other way round, the node would be back before its role is gone: gateways approve
        upstream whom they admit.
        """
        call = rewriting.revoked_node(payload)
        if call is None:
            upward.pass_text(payload)
            return

        def revoked() -> None:
            if self._upward is upward:
                upward.pass_text(payload)

        self._context.forwarder.start(self._connection, session, call, on_success=revoked)
