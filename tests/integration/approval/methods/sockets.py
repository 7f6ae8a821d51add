"""Calls as gateways forward them from their sockets."""

from __future__ import annotations

import itertools
import time
import zlib
from typing import TYPE_CHECKING, Any, Final

import msgspec

from services.approval.domain.authorization import OPERATOR
from shared.rpc.messages import (
    DEVICE_TOKEN,
    SHARED_SECRET,
    Call,
    CallerInfo,
    Error,
    Outcome,
    Result,
    decode_outcome,
)

if TYPE_CHECKING:
    from services.approval.domain.records import AuditEntry
    from tests.integration.approval.replica import Replica
    from tests.support.approval.devices import Device

SOON_MS: Final = 5_000
KINDS: Final = (DEVICE_TOKEN, SHARED_SECRET)
_numbers: Final = itertools.count(1)


async def socket(
    replica: Replica, device: Device, *scopes: str, kind: str = DEVICE_TOKEN, role: str = "operator"
) -> CallerInfo:
    """Return a gateway's caller info for a device that it just admitted with these scopes."""
    _head, (held,) = await replica.store.load([device.device_id])
    pairing = held.record.pairing if held.record else None
    token_generation = pairing.tokens[role].token_generation if pairing else ""
    return CallerInfo(kind, "a device", role, list(scopes), device.device_id, token_generation)


def call(
    caller: CallerInfo,
    method: str,
    *,
    call_id: str = "",
    protocol: int = 4,
    **params: Any,
) -> Call:
    """Return a call that expires soon by the clock of Redis, which is this machine's."""
    return Call(
        call_id=call_id or f"gateway:1/{next(_numbers)}",
        method=method,
        params=params,
        caller=caller,
        protocol=protocol,
        not_after_ms=time.time_ns() // 1_000_000 + SOON_MS,
    )


async def outcome(replica: Replica, asked: Call) -> Outcome:
    """Carry out a call; its outcome must be known."""
    reply = await replica.methods.answered(asked)
    assert isinstance(reply, bytes)
    decoded: Outcome = decode_outcome(reply)
    return decoded


def payload(result: Outcome) -> Any:
    """Return the payload of a successful call."""
    assert isinstance(result, Result), result
    return msgspec.json.decode(zlib.decompress(result.payload) if result.packed else result.payload)


def error(result: Outcome) -> tuple[str, str]:
    """Return the code and message of a failed call."""
    assert isinstance(result, Error), result
    return result.code, result.message


async def history(replica: Replica) -> list[AuditEntry]:
    """Return all entries of the audit log."""
    return await replica.registry.audit(OPERATOR, 0, 1000)
