"""Observations of a case in which every promise held; tests spoil one at a time."""

from __future__ import annotations

from typing import Final

from tools.drills.fault import Back, Fault, Hits, Promise
from tools.drills.judging.observed import Approval, Attempt, Entry, Observed, Revoke, Session
from tools.drills.load.grants import Grants

BEGAN: Final = 100.0
OVER: Final = 102.0
ENDED: Final = 106.0
CHURNER: Final = "c" * 64
HOLDER: Final = "d" * 64
NEWCOMER: Final = "e" * 64
REVOKED: Final = "f" * 64
STRANGER: Final = "0" * 64
PAIRED: Final = frozenset({CHURNER, HOLDER, NEWCOMER})
REQUEST: Final = "request-1"
REVOKE_ANSWERED: Final = 100.5
KEPT: Final = Promise()
GONE: Final = Promise(hits=Hits.EVERYBODY, within_lease=True, back=Back.FROM_END)
OTHERS_KEPT: Final = Promise(hits=Hits.TARGET, within_lease=True)


async def nothing(_context: object, _case: str) -> None:
    """Do no harm."""


def fault(promise: Promise) -> Fault:
    """Return a fault of this promise."""
    return Fault(name="gateway killed (-9)", do=nothing, promise=promise, cases=("gateway-1",))


def good_case() -> Observed:
    """Return a case of `gateway-1`: a new device, a revoke, two sessions, a churning device."""
    grants = Grants()
    for device in (CHURNER, HOLDER, REVOKED):
        grants.grant(device, 50.0)
    grants.grant(NEWCOMER, 101.0)
    grants.void(REVOKED, REVOKE_ANSWERED)
    closed = [
        Session(REVOKED, f"gateway-{number}", 60.0, REVOKE_ANSWERED + 0.02, 4001, 100.4)
        for number in (1, 2, 3)
    ]
    return Observed(
        fault="gateway killed (-9)",
        case="gateway-1",
        round=1,
        grants=grants,
        churning=frozenset({CHURNER}),
        began=BEGAN,
        struck=BEGAN,
        over=OVER,
        ended=ENDED,
        attempts=[
            Attempt(CHURNER, 99.0, 99.1, "gateway-1"),
            Attempt(CHURNER, 100.1, 100.2, "gateway-2", "UNAVAILABLE"),
            Attempt(CHURNER, 100.9, 101.0, "gateway-2"),
            Attempt(CHURNER, 102.4, 102.5, "gateway-3"),
            Attempt(STRANGER, 100.3, 100.4, "gateway-3", "PAIRING_REQUIRED"),
            Attempt(REVOKED, 101.3, 101.4, "gateway-3", "AUTH_DEVICE_TOKEN_MISMATCH"),
            Attempt(NEWCOMER, 100.7, 100.8, "gateway-3", "PAIRING_REQUIRED"),
            Attempt(NEWCOMER, 101.3, 101.4, "gateway-3"),
        ],
        sessions=[Session(HOLDER, "gateway-1", 90.0), Session(HOLDER, "gateway-2", 90.0)],
        approvals=[Approval(NEWCOMER, REQUEST, 101.2)],
        revoke=Revoke(REVOKED, closed, 100.4, REVOKE_ANSWERED),
        audit=[
            Entry(7, "requested", NEWCOMER, REQUEST),
            Entry(8, "removed", REVOKED, ""),
            Entry(9, "approved", NEWCOMER, REQUEST),
        ],
        paired=PAIRED,
    )
