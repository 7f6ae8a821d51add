"""Diagnosis of a first frame that is not a valid `connect`. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shared.protocol import refusals, schema
from shared.protocol.connect import ConnectFrame, connect_from
from shared.protocol.limits import PROTOCOLS

if TYPE_CHECKING:
    from shared.protocol.refusals import Refusal


_NUMBERS: Final = (int, float)


def diagnose(text: bytes) -> tuple[str, Refusal | ConnectFrame]:
    """Return the frame id and the refusal for a first frame that the fast decoder rejected.

    Clients depend on the order of the checks. If the frame passes them all, it is returned as a
    `connect`.
    """
    try:
        value = schema.parse(text)
    except ValueError:
        return "", refusals.NOT_JSON
    params = value.get("params", {}) if isinstance(value, dict) else {}
    claimed = params if isinstance(params, dict) else {}
    client = claimed.get("client")
    client = client if isinstance(client, dict) else {}
    version = common_version(claimed.get("minProtocol"), claimed.get("maxProtocol"))
    if is_worker(client.get("id"), client.get("mode"), claimed.get("role"), version):
        return "", refusals.WORKER
    if schema.request_problem(value) is not None:
        return "", refusals.INVALID_FRAME
    frame_id = value["id"]
    if value["method"] != "connect":
        return frame_id, refusals.NOT_CONNECT
    problems = schema.params_problems(params, schema.CONNECT_PARAMS)
    if problems:
        return frame_id, refusals.invalid_params(problems, version or PROTOCOLS[0])
    return frame_id, connect_from(value)


def is_worker(client_id: object, mode: object, role: object, version: int | None) -> bool:
    """Return whether a client claims to be a worker; protocol 3 has no such client id or mode."""
    if role == "worker":
        return version != refusals.PROTOCOL_3
    return mode == "worker" or client_id == "openclaw-worker"


def common_version(minimum: object, maximum: object) -> int | None:
    """Return the highest protocol version that both sides support, or None."""
    if not isinstance(minimum, _NUMBERS) or not isinstance(maximum, _NUMBERS):
        return None
    return next((version for version in PROTOCOLS if minimum <= version <= maximum), None)
