"""Which clients may be held while they wait for approval, and for how long. Pure.

Only clients are listed that were tested: how long they wait for the response to `connect` was
measured with unmodified programs. The limits leave them time to receive today's refusal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from shared.protocol.connect import DOCTOR_NAME
from shared.protocol.limits import PROTOCOLS
from shared.protocol.refusals import PROTOCOL_3

if TYPE_CHECKING:
    from shared.rpc.messages import AuthorizeDevice

COMMAND_SECONDS: Final = 8.0
"""The command line: `openclaw devices list` gives up 10 s after it was started."""
REFERENCE_SECONDS: Final = 13.0
"""Programs with the reference client, which reconnects after 15 s without a response."""
NODE_SECONDS: Final = 10.0
"""Nodes of protocol 4, which reconnect after 11 s to 15 s without a response."""
NODE_3_SECONDS: Final = 28.0
"""Nodes of protocol 3, which exit after 30 s without a response."""


class HoldLimit(NamedTuple):
    """How long to hold a class of clients, counted from the upgrade.

    `reconnects`: its clients connect again by themselves after close 1012.
    """

    seconds: float
    reconnects: bool


_LIMITS: Final = {
    ("cli", "cli", "operator", PROTOCOLS[0]): HoldLimit(COMMAND_SECONDS, reconnects=False),
    ("cli", "cli", "operator", PROTOCOL_3): HoldLimit(COMMAND_SECONDS, reconnects=False),
    ("gateway-client", "backend", "operator", PROTOCOLS[0]): HoldLimit(
        REFERENCE_SECONDS, reconnects=True
    ),
    ("node-host", "node", "node", PROTOCOLS[0]): HoldLimit(NODE_SECONDS, reconnects=True),
    ("node-host", "node", "node", PROTOCOL_3): HoldLimit(NODE_3_SECONDS, reconnects=False),
}
"""By client id, mode, role and protocol."""


def hold_limit(question: AuthorizeDevice) -> HoldLimit | None:
    """Return how long the client may be held; None: not at all."""
    client = question.client
    if client.display_name == DOCTOR_NAME:
        return None  # it is there to see the refusal
    if question.setup_digest:
        return None  # with a setup code, clients are told to retry by themselves
    return _LIMITS.get((client.id, client.mode, question.role, question.protocol))
