"""The real parts of the services, instrumented to report to the oracle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from services.approval.registry.registry import Registry
from services.gateway.approval.client import BusApprovalClient
from services.gateway.replication.replica import Freshness, Replica
from shared.rpc.messages import Admitted, AuthorizeDevice, Result

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.approval.domain.authorization import Caller
    from services.gateway.approval.client import Then
    from services.gateway.replication.replica import Effect
    from shared.bus.errors import Unavailable
    from shared.rpc.messages import (
        Answer,
        Call,
        Changed,
        HeartbeatAnswer,
        Outcome,
        Position,
        ReportSecret,
        TokenCheck,
    )
    from tests.simulation.checks.oracle import Oracle


class WatchedReplica(Replica):
    """The real Replica; `on_change` is called for every change it accepts."""

    on_change: Callable[[Changed], None]
    count: Callable[[str], None]
    lost_since: Callable[[float], bool]
    world_now: Callable[[], float]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._went: dict[int, float] = {}
        self._taken = 0
        self._proven_at = float("-inf")
        self.resynced_at = float("-inf")
        """When a resynchronization was last requested, in the world's time."""

    @property
    def unproven_seconds(self) -> float:
        """Seconds since the last fully answered heartbeat was sent."""
        return self._clock.monotonic() - self._proven_at

    def next_heartbeat(self) -> int:
        """Record that a heartbeat is sent."""
        heartbeat_id = super().next_heartbeat()
        self._went[heartbeat_id] = self._clock.monotonic()
        return heartbeat_id

    def on_event(self, news: Changed) -> list[Effect]:
        """Handle an event."""
        if self.booted:
            self.on_change(news)
        if (
            self.booted
            and news.change.number == self.applied.number + 1
            and news.previous_tag != self.applied.tag
        ):
            self.count("R5")
        return super().on_event(news)

    def freshness(self, decided_at: Position, device_id: str) -> Freshness:
        """Evaluate an answer."""
        found = super().freshness(decided_at, device_id)
        if found is Freshness.STALE:
            self.count("R6")
        elif found is Freshness.AHEAD:
            self.count("R6 wait")
        return found

    def _resync(self, *given: Any) -> list[Effect]:
        effects = super()._resync(*given)
        self._went.clear()
        if self.lost_since(self.unproven_seconds):
            self.resynced_at = self.world_now()
        if effects:
            self.count("R8 resync")
        return effects

    def _forget(self, *given: Any) -> None:
        before = len(self._memory)
        super()._forget(*given)
        if len(self._memory) < before:
            self.count("R10")

    def on_answer(self, answer: HeartbeatAnswer) -> list[Effect]:
        """Handle an answer; its applied changes count as received."""
        before = self.applied.number
        went = self._went.pop(answer.heartbeat_id, None)
        effects = super().on_answer(answer)
        if went is not None and answer.heartbeat_id >= self._taken:
            self._taken = answer.heartbeat_id
            if self.applied == answer.head:
                self._proven_at = max(self._proven_at, went)
        for change in answer.changes:
            if before < change.change.number <= self.applied.number:
                self.on_change(change)
        return effects


class WatchedApprovals(BusApprovalClient):
    """The real ApprovalClient; `current` is the last answer that counted."""

    oracle: Oracle
    count: Callable[[str], None]

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.current: tuple[Admitted, str] | None = None

    async def call(self, call: Call) -> Outcome:
        """Forward a call."""
        self.oracle.asked(call.call_id)
        self.oracle.callers.called(call.call_id)
        outcome = await super().call(call)
        if isinstance(outcome, Result):
            self.oracle.callers.returned(call.call_id, self._replica, self.oracle.server)
        return outcome

    def request(self, question: AuthorizeDevice | ReportSecret | TokenCheck, then: Then) -> None:
        """Send a request."""

        def answered(answer: Answer | Unavailable) -> None:
            self.current = (answer, question.call_id) if isinstance(answer, Admitted) else None
            then(answer)
            self.current = None

        self.oracle.asked(question.call_id)
        super().request(question, answered)


class WatchedRegistry(Registry):
    """The real registry; counts where a caller's own record made a difference."""

    count: Callable[[str], None]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._judged_by: dict[str, str] = {}

    async def _narrowed(self, caller: Caller) -> Caller:
        narrowed = await super()._narrowed(caller)
        if narrowed.scopes != caller.scopes:
            self.count("R12")
        if self._judged_by.setdefault(caller.call_id, narrowed.version) != narrowed.version:
            self.count("R12 version")
        return narrowed
