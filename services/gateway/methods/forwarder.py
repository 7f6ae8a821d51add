"""Forwards method calls from a socket to approval, and responses back to the socket."""

from __future__ import annotations

import asyncio
import random
import zlib
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from shared.bus.errors import Unavailable
from shared.protocol import refusals
from shared.protocol.frames import ErrorBody, failure, success
from shared.rpc.messages import DEVICE_TOKEN, SHARED_SECRET, Call, CallerInfo, Result

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.gateway.approval.client import ApprovalClient
    from services.gateway.connections.connection import Connection
    from services.gateway.connections.hub import Hub
    from services.gateway.handshake.outcome import Session
    from services.gateway.methods.dispatcher import MethodCall
    from services.gateway.metrics import Metrics

IN_FLIGHT_LIMIT: Final = 16
"""The most concurrent calls of one connection; further ones get a retryable error."""
RETRY_MIN_MS: Final = 500
RETRY_MAX_MS: Final = 2_000
"""Bounds of the random `retryAfterMs`."""


class Forwarder:
    """Forwards calls to approval, one task per call, without blocking the socket."""

    def __init__(self, approvals: ApprovalClient, connections: Hub, metrics: Metrics) -> None:
        self._approvals = approvals
        self._connections = connections
        self._metrics = metrics
        self._tasks: set[asyncio.Task[None]] = set()
        self._log = structlog.get_logger("gateway")

    def start(
        self,
        connection: Connection,
        session: Session,
        method_call: MethodCall,
        *,
        on_success: Callable[[], object] | None = None,
    ) -> None:
        """Start a call; its response is sent when it arrives.

        With `on_success`, that is called in place of a response, unless the call failed.
        """
        if len(connection.calls) >= IN_FLIGHT_LIMIT:
            self._metrics.calls.labels(method_call.method, "unavailable").inc()
            connection.send(_unavailable(method_call, Unavailable("overloaded")))
            return
        call_id = connection.next_call(session.connection_id)
        connection.calls.add(call_id)
        call = Call(
            call_id=call_id,
            method=method_call.method,
            params=method_call.params,
            caller=_caller_info(session),
            protocol=session.protocol,
            not_after_ms=0,
        )
        task = asyncio.get_running_loop().create_task(
            self._forward(connection, method_call, call, on_success)
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Cancel all calls in progress."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _forward(
        self,
        connection: Connection,
        method_call: MethodCall,
        call: Call,
        on_success: Callable[[], object] | None,
    ) -> None:
        try:
            response, outcome = await self._response(method_call, call)
        except Exception:  # noqa: BLE001 (a bug: report the outcome as unknown)
            self._log.exception("call failed", call=call.call_id, method=method_call.method)
            unknown = Unavailable("no-responder", detail="the answer is malformed")
            response, outcome = _unavailable(method_call, unknown), "unavailable"
        finally:
            connection.calls.discard(call.call_id)
        self._metrics.calls.labels(method_call.method, outcome).inc()
        if on_success is not None and outcome == "returned":
            on_success()
        else:
            self._connections.respond(connection, call.call_id, response)

    async def _response(self, method_call: MethodCall, call: Call) -> tuple[bytes, str]:
        try:
            outcome = await self._approvals.call(call)
        except Unavailable as error:
            return _unavailable(method_call, error), "unavailable"
        if isinstance(outcome, Result):
            payload = zlib.decompress(outcome.payload) if outcome.packed else outcome.payload
            return success(method_call.frame_id, msgspec.Raw(payload)), "returned"
        body = ErrorBody(outcome.code, outcome.message, outcome.details)
        return failure(method_call.frame_id, body), "failed"


def _caller_info(session: Session) -> CallerInfo:
    name = f"device {session.device_id}"
    return CallerInfo(
        kind=SHARED_SECRET if session.method == "token" else DEVICE_TOKEN,
        name=name if session.device_id else f"gateway token from {session.address}",
        role=session.role,
        scopes=list(session.scopes),
        device_id=session.device_id,
        token_generation=session.token_generation,
    )


def _unavailable(method_call: MethodCall, error: Unavailable) -> bytes:
    retry_after_ms = random.randint(RETRY_MIN_MS, RETRY_MAX_MS)  # noqa: S311 (spread)
    refusal = refusals.unavailable(error.reason, error.dependency, retry_after_ms)
    return failure(method_call.frame_id, refusal.error or ErrorBody("UNAVAILABLE", "retry shortly"))
