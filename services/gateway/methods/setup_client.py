"""What a gateway asks and reports about setup codes, on its own behalf."""

from __future__ import annotations

import asyncio
import zlib
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from services.gateway import log_events
from shared.bus.errors import Unavailable
from shared.protocol.limits import PROTOCOLS
from shared.rpc.messages import SETUP_DELIVERED, SETUP_JOIN, Call, CallerInfo, Result

if TYPE_CHECKING:
    from services.gateway.approval.client import ApprovalClient

REPORT_TRIES: Final = 3
REPORT_PAUSE_SECONDS: Final = 1.0
"""Attempts at a report, and the pause between two; without it the outcome stays uncertain."""


class JoinAnswer(msgspec.Struct, rename="camel", frozen=True):
    """Approval's answer to a join URL: the payload, none, or how long the address is locked out."""

    payload: msgspec.Raw = msgspec.Raw()
    locked_ms: int = 0


_decode_join: Final = msgspec.json.Decoder(JoinAnswer).decode


class SetupClient:
    """Fetches the payload of a join URL, and reports whether a device got its hello-ok."""

    def __init__(self, boot_id: str, approvals: ApprovalClient) -> None:
        self._boot_id = boot_id
        self._approvals = approvals
        self._calls = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._log = structlog.get_logger("gateway")

    async def join(self, short_code: str, address: str) -> JoinAnswer:
        """Use up a join URL. Raises Unavailable."""
        call = self._call(SETUP_JOIN, {"code": short_code, "address": address})
        outcome = await self._approvals.call(call)
        if not isinstance(outcome, Result):
            return JoinAnswer()
        payload = zlib.decompress(outcome.payload) if outcome.packed else outcome.payload
        try:
            return _decode_join(payload)
        except msgspec.MsgspecError:
            raise Unavailable("no-responder", detail="the answer is malformed") from None

    def report(self, setup_id: str, *, delivered: bool) -> None:
        """Report, without waiting, whether the device that used a code up was sent hello-ok."""
        task = asyncio.get_running_loop().create_task(self._report(setup_id, delivered))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Cancel reports that are not sent yet."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _report(self, setup_id: str, delivered: bool) -> None:  # noqa: FBT001 (from above)
        params = {"setupId": setup_id, "delivered": delivered}
        for attempt in range(REPORT_TRIES):
            if attempt:
                await asyncio.sleep(REPORT_PAUSE_SECONDS)
            try:
                await self._approvals.call(self._call(SETUP_DELIVERED, params))
            except Unavailable:
                continue
            return
        self._log.warning(log_events.SETUP_UNREPORTED.name, setup_id=setup_id)

    def _call(self, method: str, params: dict[str, object]) -> Call:
        self._calls += 1
        return Call(
            call_id=f"{self._boot_id}:setup/{self._calls}",
            method=method,
            params=params,
            caller=CallerInfo("gateway", f"gateway {self._boot_id}", "operator", []),
            protocol=PROTOCOLS[0],
            not_after_ms=0,
        )
