"""A relayed connection: the usual handshake, then frames to and from the upstream.

The client's proof is over the challenge that it got. It is good for the upstream too only if that
challenge was the upstream's, so a client from a known address waits for it; all others get our own
challenge, are judged by it, and have to come back once they are admitted.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final

import msgspec

from services.gateway import log_events
from services.gateway.relay.opening import OPEN_SECONDS
from services.gateway.relay.passing import DownwardPasser, UpwardPasser
from services.gateway.relay.relay import RETRY_AWAY_MS
from services.gateway.relay.rules import rewriting
from services.gateway.relay.rules.connect_response import Refused, is_covered, read_connect_response
from services.gateway.relay.rules.headers import CLIENT_USER, COMMAND_USER
from services.gateway.relay.rules.rewriting import Route
from services.gateway.session.handler import SessionHandler
from services.gateway.websocket.frame_parser import BINARY, TEXT
from services.gateway.websocket.frames import text_frame_parts
from shared.protocol import refusals
from shared.protocol.closing import CloseCode
from shared.protocol.events import CHALLENGE
from shared.protocol.frames import ErrorBody, failure
from shared.protocol.limits import QUEUED_FRAMES_LIMIT

if TYPE_CHECKING:
    from services.gateway.connections.connection import Connection
    from services.gateway.handshake.handshake import Handshake
    from services.gateway.handshake.outcome import Accepted, RequestInfo, Session
    from services.gateway.relay.opening import Ticket
    from services.gateway.relay.relay import Relay
    from services.gateway.relay.rules.headers import ForwardedClient
    from services.gateway.relay.upstream.socket import UpstreamSocket
    from services.gateway.session.context import SessionContext
    from services.gateway.websocket.protocol import SocketProtocol
    from shared.bus.errors import Unavailable
    from shared.rpc.messages import Answer

JOIN_SECONDS: Final = 5.0
"""How long the upstream may take from `connect` to hello-ok."""
_CHALLENGE_MARK: Final = f'"{CHALLENGE}"'.encode()


class Stage(Enum):
    """Stages of a relayed connection, in order."""

    OPENING = auto()
    """The upstream's challenge is waited for; the client has none yet."""
    CHALLENGED = auto()
    """The client has a challenge: the upstream's, while there is a socket to it."""
    OPENING_AS_COMMAND = auto()
    """Admitted without a device; a socket as that upstream user is being opened."""
    JOINING = auto()
    """Admitted; `connect` went upstream, and no client frame does before its hello-ok."""
    PAIRING = auto()
    """Admitted here; the device is being approved upstream, and then has to retry."""
    JOINED = auto()
    """Frames pass."""
    ENDED = auto()


_JOINS: Final = frozenset({Stage.OPENING_AS_COMMAND, Stage.JOINING, Stage.PAIRING})
"""The stages of a client that is admitted here and not upstream."""
_BROKEN: Final = ErrorBody("INVALID_REQUEST", "invalid request frame: not readable JSON")


class RelayHandler(SessionHandler):
    """One relayed connection, and the listener of its upstream socket."""

    __slots__ = (
        "_asked_at",
        "_client",
        "_connect",
        "_is_delayed",
        "_relay",
        "_stage",
        "_ticket",
        "_upstream",
        "_welcome",
        "socket",
    )

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
        self._client = client
        self._stage = Stage.CHALLENGED
        self._is_delayed = False
        """Whether the challenge had to wait: the client may connect without one meanwhile."""
        self._upstream: UpstreamSocket | None = None
        self._ticket: Ticket | None = None
        self._connect = b""
        """The client's first frame, which is forwarded once it is admitted."""
        self._welcome: Accepted | None = None
        self._asked_at = 0.0
        """When `connect` went upstream, on the relay's clock."""
        self.socket: SocketProtocol | None = None
        """The client's end, to stop reading from it."""

    # From the client's side.

    def send_challenge(self, upgraded: bytes) -> None:
        """Answer the upgrade; a client from a known address gets the upstream's challenge."""
        relay, peer = self._relay, self._request
        if relay.knows(self._connection.limit_key, direct_loopback=peer.direct_loopback):
            self._connection.transport.write(upgraded)
            self._stage = Stage.OPENING
            self._is_delayed = True
            if self._ask_for_socket(OPEN_SECONDS, self._open_as_client):
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

    def ping(self) -> None:
        """Ping the upstream on this connection's behalf."""
        if self._upstream is not None:
            self._upstream.ping()

    def pause_writing(self) -> None:
        """Stop reading from the upstream, because the client does not read."""
        if self._upstream is not None:
            self._upstream.pause_reading()

    def resume_writing(self) -> None:
        """Resume reading from the upstream."""
        if self._upstream is not None:
            self._upstream.resume_reading()

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
        if handshake is None:
            return
        welcome = self._accepted(handshake, result)
        if welcome is None:
            return
        relay = self._relay
        relay.learn([self._connection.limit_key])
        if welcome.device_id and self._upstream is None:
            self._come_back()
            return
        self._context.connections.admit(
            self._connection, handshake.session(welcome), welcome.client, backend=self
        )
        self._welcome = welcome
        if welcome.device_id and self._upstream is not None:
            self._stage = Stage.JOINING
            relay.wait(self, JOIN_SECONDS)
            self._give_back_ticket()
            self._asked_at = relay.clock.monotonic()
            self._upstream.send_text(rewriting.upstream_connect(self._connect))
            return
        self._drop_upstream()
        self._stage = Stage.OPENING_AS_COMMAND
        if not self._ask_for_socket(JOIN_SECONDS, self._open_as_command):
            self._come_back()

    def _serve(self, session: Session, opcode: int, payload: bytes) -> None:
        """Forward a frame of an admitted client, or serve it here."""
        connections, connection = self._context.connections, self._connection
        upstream = self._upstream
        if opcode == BINARY:
            connections.close(connection, CloseCode.UNSUPPORTED, "")
        elif self._stage is not Stage.JOINED or upstream is None:
            if len(self._queued) >= QUEUED_FRAMES_LIMIT:
                refusal = refusals.TOO_MANY_FRAMES
                connections.close(connection, refusal.close_code, refusal.close_reason)
            else:
                self._queued.append((opcode, payload))
        elif connections.serves(connection):
            route = rewriting.route_of(payload)
            if route is Route.HERE:
                super()._serve(session, opcode, payload)
            elif route is Route.BROKEN:
                connection.send(failure("invalid", _BROKEN))
            elif route is Route.REMOVES_NODE:
                self._remove_node(session, payload)
            else:
                self._send_up(upstream, payload)

    # From the upstream's side.

    def on_text(self, payload: bytes) -> None:
        """Handle a text message from the upstream."""
        if self._stage is Stage.JOINED:
            self._pass_down(payload)
        elif self._stage is Stage.JOINING:
            self._on_response(payload)
        elif _CHALLENGE_MARK in payload:
            self._on_challenge(payload)

    def on_end(self, code: int | None, reason: str) -> None:
        """Close the client as the upstream closed; before hello-ok, tell it to retry."""
        stage, self._upstream = self._stage, None
        self._give_back_ticket()
        if stage is Stage.OPENING:
            self._challenge_ourselves()
        elif stage is Stage.JOINED:
            self._ended()
            ours, why = rewriting.code_for_client(code)
            self._context.connections.close(self._connection, ours, reason if why is None else why)
        elif stage in _JOINS:
            self._come_back()

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
        if self._stage in _JOINS:
            self._relay.upstream.failed("no hello-ok in time")
        self._do_without_upstream()

    def _do_without_upstream(self) -> None:
        """Send the gateway's own challenge; a client that is already admitted is told to retry."""
        stage = self._stage
        self._drop_upstream()
        if stage is Stage.OPENING:
            self._challenge_ourselves()
        elif stage in _JOINS:
            self._come_back()

    def _on_challenge(self, payload: bytes) -> None:
        upstream, handshake = self._upstream, self._handshake
        if upstream is None or handshake is None:
            return
        if self._ticket is not None:
            self._relay.openings.opened(self._ticket)
        try:
            asked = rewriting.read_challenge(payload)
        except msgspec.MsgspecError:
            self._relay.upstream.failed("its challenge is not readable")
            self._do_without_upstream()
            return
        if problem := self._relay.upstream.clock_problem(asked.ts):
            self._relay.upstream.failed(problem)
            self._do_without_upstream()
            return
        self._relay.upstream.reached()
        if self._stage is Stage.OPENING_AS_COMMAND:
            self._stage = Stage.JOINING
            self._give_back_ticket()
            self._asked_at = self._relay.clock.monotonic()
            upstream.send_text(rewriting.deviceless_connect(self._connect))
        elif self._stage is Stage.OPENING:
            self._relay.stop_waiting(self)
            handshake.nonce = asked.nonce
            self._stage = Stage.CHALLENGED
            self._connection.send(payload)

    def _on_response(self, payload: bytes) -> None:
        """Handle the upstream's response to `connect`."""
        handshake, welcome, session = self._handshake, self._welcome, self._connection.session
        if handshake is None or welcome is None or session is None:
            return
        joined = read_connect_response(payload, welcome)
        if joined is None:
            return
        if isinstance(joined, Refused):
            self._on_refusal(joined, welcome)
            return
        device_id, pairing = welcome.device_id, self._relay.pairing
        if joined.missing_scopes and device_id and not pairing.is_granted_less(device_id):
            self._wait_for_pairing()
            if not pairing.approve_pending(
                device_id, lambda request: is_covered(request, welcome), self._come_back
            ):
                self._come_back()
            return
        self._relay.stop_waiting(self)
        self._relay.upstream.reached(joined.version)
        self._relay.joined += 1
        took = self._relay.clock.monotonic() - self._asked_at
        self._context.metrics.upstream_seconds.observe(took)
        self._stage = Stage.JOINED
        self._pass_frames()
        self._log_outcome(handshake, welcome)
        self._connection.send(joined.frame)
        self._context.connections.unmute(self._connection)
        queued, self._queued = self._queued, []
        for opcode, frame in queued:
            self._serve(session, opcode, frame)

    def _on_refusal(self, refused: Refused, welcome: Accepted) -> None:
        if refused.pairing_request is not None:
            self._approve_upstream(refused.pairing_request, welcome)
            return
        self._context.metrics.upstream_refusals.labels(refused.label).inc()
        self._context.log.warning(
            log_events.UPSTREAM_REFUSED.name,
            connection=self._handshake.connection_id if self._handshake else "",
            device=welcome.device_id,
            error=refused.code,
            message=refused.message,
        )
        if refused.mismatch:
            body = ErrorBody(refused.error_code, refused.mismatch, refused.details)
            self._end_handshake(
                refusals.Refusal("protocol", CloseCode.PROTOCOL_MISMATCH, refused.mismatch, body)
            )
            return
        self._come_back()

    def _approve_upstream(self, request_id: str, welcome: Accepted) -> None:
        """Pair the device at the upstream; the client is told to retry when that is done."""
        self._wait_for_pairing()
        if not request_id or not self._relay.pairing.approve(
            welcome.device_id, request_id, self._come_back
        ):
            self._come_back()

    def _wait_for_pairing(self) -> None:
        self._stage = Stage.PAIRING
        self._drop_upstream()
        self._relay.wait(self, JOIN_SECONDS)

    def _pass_down(self, payload: bytes) -> None:
        connection = self._connection
        if not self._context.connections.serves(connection):
            return
        counts = self._relay.counts
        counts.frames_down += 1
        counts.bytes_down += len(payload)
        rewritten = rewriting.down_event(payload)
        if rewritten is not None:
            connection.send(rewritten)
        else:
            connection.transport.writelines(text_frame_parts(payload))

    def _pass_frames(self) -> None:
        """Let frames that are not changed pass without being taken apart."""
        socket, upstream, hub = self.socket, self._upstream, self._context.connections
        if socket is not None and upstream is not None:
            both = self._connection, hub, upstream, self._relay.counts
            socket.pass_to(UpwardPasser(*both))
            upstream.pass_to(DownwardPasser(*both))

    # Both.

    def _ask_for_socket(self, seconds: float, start: Any) -> bool:
        """Queue for an upstream socket; False if the queue is full."""
        self._relay.wait(self, seconds)
        ticket = self._relay.openings.ask(self._connection.limit_key, start)
        if ticket is None:
            self._relay.stop_waiting(self)
            return False
        self._ticket = ticket
        return True

    def _open_as_client(self) -> None:
        self._upstream = self._relay.upstream.open(CLIENT_USER, self._client, self)

    def _open_as_command(self) -> None:
        scopes = self._welcome.grant.scopes if self._welcome else ()
        self._upstream = self._relay.upstream.open(COMMAND_USER, self._client, self, scopes=scopes)

    def _challenge_ourselves(self) -> None:
        self._relay.stop_waiting(self)
        self._stage = Stage.CHALLENGED
        if not self._connection.closing:
            super().send_challenge(b"")

    def _come_back(self) -> None:
        """Tell an admitted client to retry: the upstream will be ready for it then."""
        relay = self._relay
        self._end_handshake(
            refusals.starting(relay.retry_after_ms, routine=not relay.upstream.trouble)
        )

    def _end_handshake(self, refusal: refusals.Refusal) -> None:
        handshake = self._handshake
        self._leave(CloseCode.NORMAL)
        if handshake is not None:
            self._refuse(handshake, refusal.with_detail("connectionId", handshake.connection_id))

    def _leave(self, code: int) -> None:
        """Close the upstream's side and release this connection's share of the relay."""
        if self._upstream is not None:
            self._upstream.close(code)
        self._drop_upstream()
        self._ended()

    def _drop_upstream(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.close(CloseCode.NORMAL)
        self._give_back_ticket()
        self._relay.stop_waiting(self)

    def _give_back_ticket(self) -> None:
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            self._relay.openings.release(ticket)

    def _ended(self) -> None:
        if self._stage is Stage.JOINED:
            self._relay.joined -= 1
        self._stage = Stage.ENDED

    def _remove_node(self, session: Session, payload: bytes) -> None:
        """Revoke the node role here, then pass the frame on.

        The other way round, the node would be back before its role is gone: gateways approve
        upstream whom they admit.
        """
        call = rewriting.revoked_node(payload)
        if call is None:
            self._pass_up(payload)
            return
        self._context.forwarder.start(
            self._connection, session, call, on_success=lambda: self._pass_up(payload)
        )

    def _pass_up(self, payload: bytes) -> None:
        upstream = self._upstream
        if (
            self._stage is Stage.JOINED
            and upstream is not None
            and self._context.connections.serves(self._connection)
        ):
            self._send_up(upstream, payload)

    def _send_up(self, upstream: UpstreamSocket, payload: bytes) -> None:
        counts = self._relay.counts
        counts.frames_up += 1
        counts.bytes_up += len(payload)
        upstream.send_text(payload)
