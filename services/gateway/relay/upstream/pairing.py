"""Approves and removes devices at the upstream, so that its list follows ours."""

from __future__ import annotations

import random
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

import structlog

from services.gateway import log_events
from services.gateway.relay.upstream.call import CALL_SECONDS, CallFailed, UpstreamCall

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.gateway.relay.upstream.upstream import Upstream
    from shared.clock import Clock

APPROVALS_LIMIT: Final = 256
"""Maximum number of devices that wait to be approved upstream; more are told to retry."""
CALLS_LIMIT: Final = 4
"""How many of these calls are under way at the same time."""
REMOVALS_LIMIT: Final = 10_000
"""How many removed devices wait until the upstream forgets them; the oldest is dropped first."""
GRANTED_LESS_LIMIT: Final = 10_000
"""How many devices are remembered that the upstream grants less; the oldest is dropped first."""
GRANTED_LESS_SECONDS: Final = 600.0
"""How long each is remembered: after that, its next connect looks for a request again."""
REMOVAL_SPREAD_SECONDS: Final = 2.0
"""Every replica removes a device upstream, within this time: most find that it is done."""

_GONE: Final = ("unknown requestId", "unknown deviceId")
"""How the upstream says that another replica was quicker."""


class UpstreamPairing:
    """One approval at a time for each device; removals one after the other until they succeed.

    `sweep` is called several times a second: it starts what is due, and ends what takes too long.
    """

    def __init__(self, upstream: Upstream, clock: Clock, version: str) -> None:
        self._upstream = upstream
        self._clock = clock
        self._version = version
        self._log = structlog.get_logger("gateway")
        self._waiting: dict[str, list[Callable[[], None]]] = {}
        """By device: whom to call when its approval has ended."""
        self._queue: OrderedDict[str, Callable[[], None]] = OrderedDict()
        """Approvals that have not begun, by device."""
        self._granted_less: OrderedDict[str, float] = OrderedDict()
        """Until when each device is remembered; the next one to be forgotten is first."""
        self._removals: OrderedDict[str, float] = OrderedDict()
        """Devices to remove, each with the time from which it is due."""
        self._calls: dict[UpstreamCall, float] = {}

    def approve(self, device_id: str, request_id: str, then: Callable[[], None]) -> bool:
        """Approve a device upstream; `then` is called in any case. False: too many approvals."""
        return self._enqueue(device_id, then, lambda: self._approve(device_id, request_id))

    def approve_pending(
        self,
        device_id: str,
        may_approve: Callable[[dict[str, Any]], bool],
        then: Callable[[], None],
    ) -> bool:
        """Like `approve`, but look up the request of the device, and whether it may be approved."""
        return self._enqueue(device_id, then, lambda: self._look_up(device_id, may_approve))

    def is_granted_less(self, device_id: str) -> bool:
        """Return whether the upstream grants a device less, and has no request to approve.

        Its answer is remembered for a while only, as the device may be changed there.
        """
        return self._granted_less.get(device_id, 0.0) > self._clock.monotonic()

    def _enqueue(self, device_id: str, then: Callable[[], None], start: Callable[[], None]) -> bool:
        self._removals.pop(device_id, None)
        if device_id in self._waiting:
            self._waiting[device_id].append(then)
            return True
        if len(self._waiting) >= APPROVALS_LIMIT:
            return False
        self._waiting[device_id] = [then]
        self._queue[device_id] = start
        self._start_next()
        return True

    def remove(self, device_id: str) -> None:
        """Remove a device from the upstream soon, retrying while it cannot be reached."""
        self._granted_less.pop(device_id, None)
        delay = random.uniform(0, REMOVAL_SPREAD_SECONDS)  # noqa: S311 (spread)
        self._removals[device_id] = self._clock.monotonic() + delay
        if len(self._removals) > REMOVALS_LIMIT:
            self._removals.popitem(last=False)

    def sweep(self, now: float) -> None:
        """End calls that take too long, and start those that are due."""
        for call in [call for call, until in self._calls.items() if until <= now]:
            call.give_up()
        while self._granted_less and next(iter(self._granted_less.values())) <= now:
            self._granted_less.popitem(last=False)
        if not self._upstream.trouble:
            self._start_removals(now)

    def _start_next(self) -> None:
        while self._queue and len(self._calls) < CALLS_LIMIT:
            self._queue.popitem(last=False)[1]()

    def _approve(self, device_id: str, request_id: str) -> None:
        self._granted_less.pop(device_id, None)

        def ended(outcome: Any | CallFailed) -> None:
            self._report(log_events.UPSTREAM_APPROVED.name, device_id, outcome)
            if not isinstance(outcome, CallFailed):
                self._upstream.counts.approved += 1
            elif not outcome.message.startswith(_GONE):
                self._upstream.counts.approvals_failed += 1
            self._finish(device_id)

        self._call("device.pair.approve", {"requestId": request_id}, ended)

    def _look_up(self, device_id: str, may_approve: Callable[[dict[str, Any]], bool]) -> None:
        def ended(outcome: Any | CallFailed) -> None:
            if isinstance(outcome, CallFailed):
                self._report(log_events.UPSTREAM_APPROVED.name, device_id, outcome)
                self._upstream.counts.approvals_failed += 1
                self._finish(device_id)
                return
            request = next(filter(may_approve, _pending(outcome)), None)
            if request is not None:
                self._approve(device_id, str(request["requestId"]))
                return
            self._log.warning(log_events.UPSTREAM_GRANTS_LESS.name, device=device_id)
            self._granted_less[device_id] = self._clock.monotonic() + GRANTED_LESS_SECONDS
            self._granted_less.move_to_end(device_id)
            if len(self._granted_less) > GRANTED_LESS_LIMIT:
                self._granted_less.popitem(last=False)
            self._finish(device_id)

        self._call("device.pair.list", {}, ended)

    def _finish(self, device_id: str) -> None:
        for then in self._waiting.pop(device_id, ()):
            then()

    def _start_removals(self, now: float) -> None:
        while self._removals and len(self._calls) < CALLS_LIMIT:
            device_id, due_at = next(iter(self._removals.items()))
            if due_at > now:
                return
            del self._removals[device_id]

            def ended(outcome: Any | CallFailed, device_id: str = device_id) -> None:
                self._report(log_events.UPSTREAM_REMOVED.name, device_id, outcome)
                if isinstance(outcome, CallFailed) and outcome.retryable:
                    self._removals.setdefault(device_id, self._clock.monotonic() + CALL_SECONDS)

            self._call("device.pair.remove", {"deviceId": device_id}, ended)

    def _call(
        self, method: str, params: dict[str, Any], then: Callable[[Any | CallFailed], None]
    ) -> None:
        def done(outcome: Any | CallFailed) -> None:
            self._calls.pop(call, None)
            then(outcome)
            self._start_next()

        call = UpstreamCall(self._upstream, self._version, method, params, done)
        self._calls[call] = self._clock.monotonic() + CALL_SECONDS

    def _report(self, event: str, device_id: str, outcome: Any | CallFailed) -> None:
        if not isinstance(outcome, CallFailed):
            self._log.info(event, device=device_id)
        elif not outcome.message.startswith(_GONE):
            self._log.warning(event, device=device_id, error=str(outcome))


def _pending(listed: Any) -> list[dict[str, Any]]:
    """Return the requests in the upstream's answer to `device.pair.list`."""
    pending = listed.get("pending") if isinstance(listed, dict) else None
    found = pending if isinstance(pending, list) else []
    return [one for one in found if isinstance(one, dict) and one.get("requestId")]
