"""The cases in order, and their expected facts."""

from __future__ import annotations

from typing import Final

from tools.interop.cases import Case
from tools.interop.latchkey import Latchkey
from tools.interop.reference.scenario import Scenario

_ADMITTED: Final = ("hello-ok 4", "by token", "health", "at both gateways")
_CLOSED: Final = ("HTTP 200", "closed 4001 device removed", "at both gateways", "at once")
_AWAY: Final = ("closed 1008", "reconnect paused")

CASES: Final = (
    Case(
        "unpaired",
        Scenario.unpaired,
        ("PAIRING_REQUIRED not-paired", *_AWAY, "the client names the request", "it is listed"),
    ),
    Case("unpaired, again", Scenario.asked_again, ("same request", "at both gateways")),
    Case("approved, twice", Scenario.approved, ("HTTP 200", "HTTP 200", "paired", "nothing waits")),
    Case("admitted", Scenario.admitted, (*_ADMITTED, "also where it was refused")),
    Case(
        "device token alone",
        Scenario.admitted_by_device_token,
        ("hello-ok 4", "by device-token", "health", "at both gateways", "token kept"),
    ),
    Case(
        "wrong gateway token, device token stored",
        Scenario.outdated_token,
        ("AUTH_TOKEN_MISMATCH", "its one retry", "hello-ok 4", "by device-token"),
    ),
    Case(
        "wrong gateway token",
        Scenario.wrong_token,
        ("AUTH_TOKEN_MISMATCH", *_AWAY, "nothing waits"),
    ),
    Case(
        "signature tampered with",
        Scenario.tampered,
        ("DEVICE_AUTH_SIGNATURE_INVALID", "closed 1008", "its retry", "the same"),
    ),
    Case(
        "Redis hangs",
        Scenario.outage,
        ("UNAVAILABLE", "closed 1013", "not paused"),
        before=Latchkey.pause_redis,
    ),
    Case(
        "Redis goes on",
        Scenario.outage_over,
        ("until then UNAVAILABLE", "hello-ok 4", "by token", "nothing waits"),
        before=Latchkey.resume_redis,
    ),
    Case(
        "token rotated while live",
        Scenario.rotated,
        (*_CLOSED, "hello-ok 4", "by token", "token replaced"),
    ),
    Case(
        "token revoked while live",
        Scenario.revoked,
        (*_CLOSED, "AUTH_DEVICE_TOKEN_MISMATCH", *_AWAY, "stored token dropped"),
    ),
    Case(
        "then with the gateway token",
        Scenario.asked_after_revocation,
        ("PAIRING_REQUIRED role-upgrade", "HTTP 200", *_ADMITTED),
    ),
    Case(
        "removed while live",
        Scenario.removed,
        (*_CLOSED, "PAIRING_REQUIRED not-paired", *_AWAY, "one new request"),
    ),
    Case(
        "then with the device token",
        Scenario.token_of_removed,
        ("AUTH_DEVICE_TOKEN_MISMATCH", *_AWAY, "stored token dropped"),
    ),
)
