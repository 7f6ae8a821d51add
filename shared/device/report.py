"""What the command says: one block of text an outcome, ending with what to do next. Pure."""

from __future__ import annotations

import shlex
import textwrap
from typing import TYPE_CHECKING, Final, NamedTuple

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
        "Nothing is broken: a person has to say yes, once. Then run this again: the key stays the "
        "same, so the gateway will know the device."
    ),
    "AUTH_TOKEN_MISSING": (
        "Come with the gateway token: put it into the environment as OPENCLAW_GATEWAY_TOKEN, or "
        "name another variable with --token-env."
    ),
    "AUTH_TOKEN_MISMATCH": (
        "This is not the gateway's token. Take the value of OPENCLAW_GATEWAY_TOKEN that the "
        "gateway was started with; `make run` writes its own to secrets.env in its DATA_DIR "
        "(.data), which --secrets names."
    ),
    "AUTH_DEVICE_TOKEN_MISMATCH": (
        "The stored device token was rotated or revoked, and is forgotten now. Come with the "
        "gateway token to get a new one."
    ),
    "AUTH_SCOPE_MISMATCH": (
        "The stored device token covers less than was asked for. Ask for fewer scopes with "
        "--scope, or come with the gateway token to request more."
    ),
    "AUTH_RATE_LIMITED": (
        "Too many wrong secrets came from this address. Wait{retry_after}, then come with the "
        "right one."
    ),
    "DEVICE_IDENTITY_REQUIRED": "Come with a device key.",
    "CONTROL_UI_DEVICE_IDENTITY_REQUIRED": (
        "Open the dashboard over https or on localhost: elsewhere a browser keeps no device key."
    ),
    "CONTROL_UI_ORIGIN_NOT_ALLOWED": (
        "Add the page's origin to GATEWAY_ALLOWED_ORIGINS of the gateway, exactly as the browser "
        "sends it: scheme, host and port."
    ),
    "PROTOCOL_MISMATCH": "The gateway speaks protocols 3 and 4: come with --protocol 4.",
    "DEVICE_AUTH_SIGNATURE_EXPIRED": (
        "More than two minutes lie between the challenge and its answer on the gateway's clock. "
        "Run this again; if it stays so, look for a proxy that holds frames back, or a gateway "
        "clock that jumps."
    ),
}
_AT_DEVICE_AUTH: Final = (
    "The device's proof did not hold. Something between here and the gateway changed the frame, "
    "or the key in the state file is damaged: move that file away to start as a new device."
)
_AT_UNAVAILABLE: Final = (
    "Nothing is wrong with this device, and nobody has to approve anything: the gateway misses "
    "{dependency}. Try again{retry_after}; /readyz of the gateway says what is missing."
)
_AT_CLOSE: Final = {
    1000: "The gateway ended it: it saw no frame in time, or one that is not JSON.",
    1002: "The gateway could not read what came. Is there a proxy that changes WebSocket frames?",
    1006: (
        "The connection was lost without a close frame: the network, a proxy, or a process that "
        "was killed. Connect again."
    ),
    1008: "The gateway refuses to go on; coming back as before changes nothing.",
    1009: "A frame was too big for the gateway.",
    1012: "This replica is leaving. Connect again: another one answers.",
    1013: (
        "Something the gateway depends on is missing, so it lets nobody stay. Connect again in a "
        "few seconds; /readyz of the gateway says what is missing."
    ),
    4001: (
        "Somebody removed this device, or rotated or revoked its token. Connect again with the "
        "gateway token; it may have to be approved first."
    ),
}
_AT_HTTP: Final = {
    401: "Something before the gateway wants a login. Let WebSocket upgrades pass it.",
    403: "Something before the gateway forbids this address. Let WebSocket upgrades pass it.",
    404: "This address serves no gateway: check host, port and path.",
    426: "This address wants another protocol: is it the approval service, not the gateway?",
    502: "The proxy there reaches no gateway: is one running, and is its /readyz well?",
    503: (
        "There is no room: too many sockets from this address that are not admitted yet, or the "
        "proxy there finds no gateway. Try again in a few seconds."
    ),
}
_AT_ANOTHER: Final = (
    "Whatever answers there does not speak the gateway's protocol: check host, port and path."
)
_METHODS: Final = {"token": "the gateway token", "device-token": "its device token"}
_AT_NOTHING: Final = "Is a gateway running there? `make run` starts two on ws://127.0.0.1:18789."


def admitted(outcome: Admitted, rows: Sequence[tuple[str, str]]) -> str:
    """Say that the device is in; `rows` are what the caller knows of the attempt."""
    method = (outcome.hello.get("auth") or {}).get("method", "")
    return _block(
        f"Admitted by replica {outcome.replica}",
        [
            *rows,
            ("role", outcome.role or "operator"),
            ("scopes", ", ".join(outcome.scopes) or "none"),
            ("let in by", _METHODS.get(method, str(method))),
            ("protocol", str(outcome.protocol)),
            ("connection", outcome.connection_id),
        ],
    )


class Approval(NamedTuple):
    """Where a person says yes: the page, and the command that wants a request id behind it."""

    page: str = "/setup of the approval service"
    command: str = "latchkey devices approve"


def refused(outcome: Refused, rows: Sequence[tuple[str, str]], approval: Approval) -> str:
    """Say that the device is not in, why, and what to do."""
    codes = " / ".join(dict.fromkeys(code for code in (outcome.code, outcome.detail_code) if code))
    reason = outcome.details.get("reason", "")
    return _block(
        f"Refused: {outcome.message or 'the gateway closed without a word'}",
        [
            *rows,
            ("code", codes),
            ("reason", str(reason)),
            ("request id", outcome.request_id),
            ("connection", outcome.connection_id),
            ("closed", said(outcome.close) if outcome.close else "not yet"),
        ],
        advice(outcome, approval),
    )


def unreachable(error: DeviceClientError, rows: Sequence[tuple[str, str]]) -> str:
    """Say that no gateway was reached."""
    if isinstance(error, UnreachableError):
        what_to_do = _AT_NOTHING
        if error.status is not None:
            what_to_do = _AT_HTTP.get(error.status, _AT_ANOTHER)
        return _block(f"Unreachable: {error.why}", rows, what_to_do)
    if isinstance(error, NoAnswerError):
        what_to_do = "Something took the connection and stays silent: is it a gateway?"
        return _block(f"Unreachable: {error}", rows, what_to_do)
    return _block(f"Unreachable: {error}", rows, _AT_ANOTHER)


def ended(close: Close, seconds: float) -> str:
    """Say how a connection that was held ended."""
    return _block(f"Closed after {seconds:.1f} s: {said(close)}", [], _AT_CLOSE.get(close.code, ""))


def advice(outcome: Refused, approval: Approval | None = None) -> str:
    """Return what a person should do about a refusal; empty where there is nothing to say."""
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
    if outcome.code == "UNAVAILABLE":
        return _AT_UNAVAILABLE.format_map(values)
    if known := _AT_REFUSAL.get(outcome.detail_code):
        return known.format_map(values)
    return _AT_DEVICE_AUTH if outcome.detail_code.startswith("DEVICE_AUTH_") else ""


def said(close: Close) -> str:
    """Return a close as code and reason."""
    return f"{close.code} {close.reason}".rstrip()


def fingerprint(device_id: str) -> str:
    """Return the first 64 bits of a device id, to compare by eye with what a person is shown."""
    return " ".join(device_id[at : at + 4] for at in range(0, 16, 4))


def printable(text: str) -> str:
    """Escape whatever could move the cursor, colour the terminal, or turn the writing round."""
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
            said = printable(line)
            lines += ["", said, ""] if typed else textwrap.wrap(said, WIDTH_COLUMNS)
    return "\n".join(lines) + "\n"
