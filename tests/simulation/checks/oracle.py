"""The truth, kept apart from what the services believe, and the invariants checked against it.

I1  no client is served longer than one lease after its right ended in the store; a client that
    ended it by its own call receives the result of that call, and nothing else
I2  no client is admitted without a right to it within the lease before its request, nor by an
    answer older than a revoke that the gateway has received
I3  what one call id writes, and the end of one request, happens once in the surviving history
I5  a session is closed by us only for a reason: a change of its device, since its admission or in a
    lost history (4001); no fully answered heartbeat within the length of a lease (1013); or a loss
    of history since its admission (1012). The close is a close frame, unless the client closed first
I6  a caller that changes something has the right to it at that moment (`callers.py`), and learns of
    success once its gateway has applied the change, or at the deadline

I4 and progress are checked when all is quiet (`settled.py`).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from services.gateway.approval.client import WRITTEN_WITHIN_SECONDS
from services.gateway.connections.deadlines import SWEEP_SECONDS
from shared.protocol.closing import CloseCode
from shared.rpc.messages import ASKED_ANEW
from tests.simulation.checks.callers import Callers
from tests.simulation.checks.history import ALWAYS, Histories, closes
from tests.simulation.checks.rights import Rights, Session
from tests.support.websocket.sent_frames import CLOSE, PONG, TEXT, frames

if TYPE_CHECKING:
    from shared.rpc.messages import Admitted, Changed
    from tests.simulation.engine.world import World
    from tests.simulation.redis.server import Server
    from tests.simulation.services.gateway import GatewayProcess
    from tests.simulation.services.sockets import SimulatedSocket


class Oracle:
    """Watches every commit and every frame."""

    def __init__(self, world: World, server: Server, lease_seconds: float) -> None:
        self._world = world
        self.histories = Histories()
        self.rights = Rights(self.histories)
        self.server = server
        self.lease_seconds = lease_seconds
        self._lost_at = ALWAYS
        self.checked: Counter[str] = Counter()
        self._asked: dict[str, float] = {}
        self._heard: dict[GatewayProcess, dict[str, Changed]] = {}
        self._names: dict[str, str] = {}
        self.callers = Callers(world, self.histories, self.checked)
        server.before_commit = self.callers.before
        server.on_commit = self.committed

    def name(self, device_id: str, name: str) -> None:
        """Return a device's name in the story."""
        self._names[device_id] = name

    # ---------------------------------------------------------------------------- what happens

    def committed(self, server: Server, description: list[Any]) -> None:
        """Record a commit."""
        *keys, _result = description
        now = self._world.now
        done = self.histories.note(server, now)
        for change in done:
            name = self._names.get(change.device_id, change.device_id[:8])
            self._world.story.tell(
                f"redis {server.name}", f"change {change.change.number}: {change.kind} {name}"
            )
        if server is self.server:
            for change in done:
                self.rights.look_at(server, change.device_id, now)
        for key in keys:
            if key.startswith("latchkey:call:"):
                self._written_once(server, key.removeprefix("latchkey:call:"), done)
        self.callers.committed(server, done)

    def replaced(self, server: Server) -> None:
        """Record that another server is the master now, or that it lost its data."""
        self.server = server
        self.histories.note(server, self._world.now)
        self.rights.look_at_all(server, self._world.now)

    def asked(self, call_id: str) -> None:
        """Record a gateway's request."""
        self._asked.setdefault(call_id.partition(ASKED_ANEW)[0], self._world.now)

    def heard(self, gateway: GatewayProcess, change: Changed) -> None:
        """Record that a gateway learned of a change, by an event or a heartbeat."""
        if change.closes:
            self._heard.setdefault(gateway, {})[change.change.tag] = change

    def admitted(self, socket: SimulatedSocket, answer: Admitted, call_id: str) -> None:
        """Check that a client may be admitted (I2)."""
        device, gateway, now = socket.device, socket.gateway, self._world.now
        decided_at = self.histories.time_of(answer.change)
        session = Session(
            device.key.device_id,
            device.role,
            decided_at,
            now,
            device.profile.scopes or (),
            answer.token_generation,
            socket.token_only,
        )
        socket.session = session
        self.callers.admitted(call_id.partition(ASKED_ANEW)[0], session)
        self._world.story.tell(
            gateway.name, f"admits {device.name}, decided at change {answer.change.number}"
        )
        self.checked["I2"] += 1
        since = self._asked.get(call_id, now) - self.lease_seconds
        if not self.rights.held_since(session, since):
            self._world.violate(
                "I2", f"{gateway.name} admits {device.name}, who had no right to it for a lease"
            )
        for change in self._heard.get(gateway, {}).values():
            if (
                change.device_id == session.device_id
                and closes(change, session.role)
                and self.histories.later(self.server, answer.change, change.change)
            ):
                self._world.violate(
                    "I2",
                    f"{gateway.name} admits {device.name} by an answer of change "
                    f"{answer.change.number}, though it heard of change {change.change.number}: "
                    f"{change.kind}",
                )

    def sent(self, socket: SimulatedSocket, data: bytes) -> None:
        """Check what a gateway sends to a client (I1), and why it closes (I5)."""
        connection = socket.transport.connection
        if connection is None or connection.session is None:
            return
        if socket.session is None:
            found = socket.gateway.approvals.current
            if found is None:
                self._world.violate("I2", f"{socket.device.name} is admitted by no answer")
                return
            self.admitted(socket, *found)
        session = socket.session
        if session is None:
            return
        for kind, payload in frames(data):
            if kind == CLOSE:
                self._closes(socket, session, int.from_bytes(payload[:2], "big"))
            elif kind == TEXT and connection.ended_by:
                self._last_word(socket, session)
            elif kind != PONG:
                self.checked["I1"] += 1
                since = self._world.now - self.lease_seconds
                if not self.rights.held_since(session, since):
                    self._world.violate(
                        "I1",
                        f"{socket.gateway.name} still serves {socket.device.name}, whose right "
                        f"ended more than {self.lease_seconds:g} s ago",
                    )

    def hung_up(self, socket: SimulatedSocket) -> None:
        """Check that a gateway ends a socket only after a close frame."""
        if socket.session is not None and not socket.session.closed:
            self._world.violate("I5", f"{socket.gateway.name} drops {socket.device.name}")

    def ended(self, socket: SimulatedSocket) -> None:
        """Record that a socket is gone."""
        if socket.session is not None:
            socket.session.closed = True

    def lose_history(self) -> None:
        """Record that the store lost changes, or can no longer list them."""
        self._lost_at = self._world.now

    def lost_since(self, seconds: float) -> bool:
        """Return whether history was lost in the last this many seconds."""
        return self._lost_at >= self._world.now - seconds

    # ------------------------------------------------------------------------------- judgement

    def _last_word(self, socket: SimulatedSocket, session: Session) -> None:
        """Check that a client ended by its own call receives only that call's result (I1)."""
        self.checked["I1 own"] += 1
        if session.heard_last:
            self._world.violate("I1", f"{socket.device.name} hears more than of the end it made")
        session.heard_last = True

    def _closes(self, socket: SimulatedSocket, session: Session, code: int) -> None:
        if session.closed:
            return
        session.closed = True
        gateway, device = socket.gateway, socket.device
        self._world.story.tell(gateway.name, f"closes {device.name}: {code}")
        self.checked["I5"] += 1
        beat = gateway.beat
        if code == CloseCode.DEVICE_REMOVED:
            self._world.mattered["R9"] += 1
            if not self.histories.closed_since(session, self.server):
                self._world.violate("I5", f"{device.name} is closed, and nobody touched it")
        elif code == CloseCode.TRY_AGAIN:
            self._world.mattered["lease"] += 1
            if beat.unproven_seconds < self.lease_seconds - SWEEP_SECONDS - 0.001:
                self._world.violate("I5", f"{device.name} is closed for a lease that still runs")
        elif code == CloseCode.RESTART:
            self._world.mattered["R8"] += 1
            if session.admitted_at > beat.resynced_at:
                self._world.violate("I5", f"{device.name} is closed, and no history was lost")
        elif code != CloseCode.NORMAL or not socket.left:
            self._world.violate("I5", f"{device.name} is closed with {code}")

    def _written_once(self, server: Server, call_id: str, done: list[Changed]) -> None:
        self.checked["I3"] += 1
        if not self.histories.first_of_call(server, call_id, done):
            self._world.violate("I3", f"what {call_id} asked for was written twice")
        asked = self._asked.get(call_id.partition(ASKED_ANEW)[0])
        if asked is not None and self._world.now > asked + WRITTEN_WITHIN_SECONDS + 0.01:
            late = self._world.now - asked
            self._world.violate("I3", f"{call_id} wrote {late:.1f} s after it was asked")
