"""The command's output: one block of text per outcome, ending with what to do next. Pure."""

from __future__ import annotations

import shlex
import textwrap
from typing import TYPE_CHECKING, Final, NamedTuple

from shared import calling
from shared.device.errors import NoAnswerError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.device.errors import DeviceClientError
    from shared.device.handshake import Admitted, Close, Refused

WIDTH_COLUMNS: Final = 79

_AT_REFUSAL: Final = {
    "PAIRING_REQUIRED": (
        "Approve request {request_id} in Manage Devices ({page}), or with\n"
        "  {approve}\n"
        "This is not an error: a person has to approve the device once. Then run this again: the "
        "key stays the same, so the gateway will recognise the device."
    ),
    "AUTH_TOKEN_MISSING": (
        "Provide the gateway token: set the environment variable OPENCLAW_GATEWAY_TOKEN, or name "
        "another one with --token-env."
    ),
    "AUTH_TOKEN_MISMATCH": (
        "This is not the gateway's token. Use the value of OPENCLAW_GATEWAY_TOKEN that the "
        "gateway was started with. `make run` writes it to secrets.env in its DATA_DIR (.data); "
        "--secrets names that file."
    ),
    "AUTH_DEVICE_TOKEN_MISMATCH": (
        "The stored device token was rotated or revoked and has been deleted. Connect with the "
        "gateway token to get a new one."
    ),
    "AUTH_SCOPE_MISMATCH": (
        "The stored device token does not cover the requested scopes. Request fewer with "
        "--scope, or connect with the gateway token to request more."
    ),
    "AUTH_RATE_LIMITED": (
        "Too many wrong secrets from this address. Wait{retry_after}, then retry with the right "
        "one."
    ),
    "DEVICE_IDENTITY_REQUIRED": "Connect with a device key.",
    "CONTROL_UI_DEVICE_IDENTITY_REQUIRED": (
        "Open the dashboard over https or on localhost: browsers store a device key nowhere else."
    ),
    "CONTROL_UI_ORIGIN_NOT_ALLOWED": (
        "Add the page's origin to GATEWAY_ALLOWED_ORIGINS of the gateway, exactly as the browser "
        "sends it: scheme, host and port."
    ),
    "PROTOCOL_MISMATCH": "The gateway speaks protocols 3 and 4: use --protocol 4.",
    "DEVICE_AUTH_SIGNATURE_EXPIRED": (
        "On the gateway's clock, more than two minutes passed between the challenge and the "
        "response. Run this again; if it persists, look for a proxy that delays frames, or a "
        "gateway clock that jumps."
    ),
}
_AT_DEVICE_AUTH: Final = (
    "The device's proof is invalid. Either the frame was changed on its way to the gateway, or "
    "the key in the state file is damaged: move that file away to start as a new device."
)
STARTING: Final = "startup-sidecars"
"""Reason of a gateway that has admitted a device and is still connecting it to OpenClaw."""
_AT_UNAVAILABLE: Final = (
    "The device is fine and needs no approval: the gateway lacks {dependency}. Try "
    "again{retry_after}; /readyz of the gateway shows what is missing."
)
_AT_STARTING: Final = (
    "The device is approved, but the gateway cannot connect it to OpenClaw yet. "
    "`{upstream_check}` says why; then run this again."
)
_AT_CLOSE: Final = {
    1000: "The gateway received no frame in time, or one that is not JSON.",
    1002: "The gateway could not read a frame. Is there a proxy that changes WebSocket frames?",
    1006: (
        "The connection was lost without a close frame, because of the network, a proxy or a "
        "killed process. Connect again."
    ),
    1008: "The gateway refuses the connection; retrying unchanged does not help.",
    1009: "A frame exceeded the gateway's size limit.",
    1012: "This replica is shutting down. Connect again: another one will answer.",
    1013: (
        "A dependency of the gateway is unavailable, so it closes all connections. Connect again "
        "in a few seconds; /readyz of the gateway shows what is missing."
    ),
    4001: (
        "This device was removed, or its token was rotated or revoked. Connect again with the "
        "gateway token; the device may need a new approval."
    ),
}
_AT_HTTP: Final = {
    401: "A proxy in front of the gateway requires a login. Exempt WebSocket upgrades.",
    403: "A proxy in front of the gateway forbids this address. Allow WebSocket upgrades there.",
    404: "There is no gateway at this address: check host, port and path.",
    426: "This address requires another protocol: is it the approval service?",
    502: "The proxy cannot reach a gateway: is one running, and is its /readyz healthy?",
    503: (
        "Too many unauthenticated sockets from this address, or the proxy there cannot reach a "
        "gateway. Try again in a few seconds."
    ),
}
_AT_ANOTHER: Final = (
    "The server there does not speak the gateway's protocol: check host, port and path."
)
_METHODS: Final = {"token": "the gateway token", "device-token": "its device token"}
_AT_NOTHING: Final = "Is a gateway running there? `make run` starts two on ws://127.0.0.1:18789."


def admitted(outcome: Admitted, rows: Sequence[tuple[str, str]]) -> str:
    """Report that the device was admitted; `rows` are details known to the caller."""
    method = (outcome.hello.get("auth") or {}).get("method", "")
    return _block(
        f"Admitted by replica {outcome.replica}"
        if ":" in outcome.connection_id
        else "Admitted, and connected to OpenClaw",
        [
            *rows,
            ("role", outcome.role or "operator"),
            ("scopes", ", ".join(outcome.scopes) or "none"),
            ("method", _METHODS.get(method, str(method))),
            ("protocol", str(outcome.protocol)),
            ("connection", outcome.connection_id),
        ],
    )


class Approval(NamedTuple):
    """Where to approve a request: the page, and the command that takes its id."""

    page: str = "/setup of the approval service"
    command: str = "latchkey devices approve"


def refused(outcome: Refused, rows: Sequence[tuple[str, str]], approval: Approval) -> str:
    """Report that the device was refused, why, and what to do."""
    codes = " / ".join(dict.fromkeys(code for code in (outcome.code, outcome.detail_code) if code))
    reason = outcome.details.get("reason", "")
    return _block(
        f"Refused: {outcome.message or 'closed by the gateway without an error'}",
        [
            *rows,
            ("code", codes),
            ("reason", str(reason)),
            ("request id", outcome.request_id),
            ("connection", outcome.connection_id),
            ("closed", close_text(outcome.close) if outcome.close else "not yet"),
        ],
        advice(outcome, approval),
    )


def unreachable(error: DeviceClientError, rows: Sequence[tuple[str, str]]) -> str:
    """Report that no gateway was reached."""
    if isinstance(error, UnreachableError):
        what_to_do = _AT_NOTHING
        if error.status is not None:
            what_to_do = _AT_HTTP.get(error.status, _AT_ANOTHER)
        return _block(f"Unreachable: {error.why}", rows, what_to_do)
    if isinstance(error, NoAnswerError):
        what_to_do = "The connection was accepted, but there is no answer: is it a gateway?"
        return _block(f"Unreachable: {error}", rows, what_to_do)
    return _block(f"Unreachable: {error}", rows, _AT_ANOTHER)


def ended(close: Close, seconds: float) -> str:
    """Report how a held connection ended."""
    return _block(
        f"Closed after {seconds:.1f} s: {close_text(close)}", [], _AT_CLOSE.get(close.code, "")
    )


def advice(outcome: Refused, approval: Approval | None = None) -> str:
    """Return what a person should do about a refusal; empty if there is nothing to do."""
    if outcome.error is None:
        return _AT_CLOSE.get(outcome.close.code, "") if outcome.close else ""
    wait_ms = outcome.retry_after_ms
    page, command = approval or Approval()
    values = {
        "request_id": outcome.request_id,
        "page": page,
        "approve": f"{command} {shlex.quote(outcome.request_id)}",
        "retry_after": f" in {wait_ms / 1000:.0f} s" if wait_ms else " in a few seconds",
        "dependency": str(outcome.details.get("dependency", "something it depends on")),
    }
    if outcome.detail_code == "AUTH_RATE_LIMITED":
        values["retry_after"] = f" {wait_ms / 1000:.0f} s" if wait_ms else " five minutes"
    if outcome.details.get("reason") == STARTING:
        return _AT_STARTING.format(upstream_check=f"{calling.latchkey()} upstream check")
    if outcome.code == "UNAVAILABLE":
        return _AT_UNAVAILABLE.format_map(values)
    if known := _AT_REFUSAL.get(outcome.detail_code):
        return known.format_map(values)
    return _AT_DEVICE_AUTH if outcome.detail_code.startswith("DEVICE_AUTH_") else ""


def close_text(close: Close) -> str:
    """Return a close as code and reason."""
    return f"{close.code} {close.reason}".rstrip()


def fingerprint(device_id: str) -> str:
    """Return the first 64 bits of a device id, for visual comparison."""
    return " ".join(device_id[at : at + 4] for at in range(0, 16, 4))


def printable(text: str) -> str:
    """Escape characters that could move the cursor, colour the terminal or reverse text."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


def _block(title: str, rows: Sequence[tuple[str, str]], what_to_do: str = "") -> str:
    known = [(name, printable(value)) for name, value in rows if value]
    width = max((len(name) for name, _ in known), default=0)
    lines = textwrap.wrap(printable(title), WIDTH_COLUMNS)
    lines += [f"  {name:<{width}}  {value}" for name, value in known]
    if what_to_do:
        lines.append("")
        for line in f"What to do: {what_to_do}".split("\n"):
            typed = line.startswith("  ")
            text = printable(line)
            lines += ["", text, ""] if typed else textwrap.wrap(text, WIDTH_COLUMNS)
    return "\n".join(lines) + "\n"
