"""How a client that is admitted here becomes connected upstream."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from services.gateway.relay.rules.connect_response import Refused, is_covered, read_connect_response

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.gateway.handshake.outcome import Accepted
    from services.gateway.relay.rules.rewriting import Joined
    from services.gateway.relay.upstream.pairing import UpstreamPairing

JOIN_SECONDS: Final = 5.0
"""How long the upstream may take from `connect` to hello-ok."""


class Stage(Enum):
    """Stages of a relayed connection, in order."""

    OPENING = auto()
    """The upstream's challenge is waited for; the client has none yet."""
    CHALLENGED = auto()
    """The client has a challenge: the upstream's, while there is a socket to it."""
    OPENING_AS_COMMAND = auto()
    """Admitted without a device; a socket as that upstream user is being opened."""
    JOINING = auto()
    """Admitted; `connect` went upstream, and no client frame does before its hello-ok."""
    PAIRING = auto()
    """Admitted here; the device is being approved upstream, and then has to retry."""
    JOINED = auto()
    """Frames pass."""
    ENDED = auto()


JOINS: Final = frozenset({Stage.OPENING_AS_COMMAND, Stage.JOINING, Stage.PAIRING})
"""The stages of a client that is admitted here and not upstream."""


class Step(Enum):
    """What follows if the upstream neither connects a client nor refuses it for good."""

    PAIR = auto()
    """The device is being approved there; the client is told to retry when that has ended."""
    RETRY = auto()
    """The client is told to retry at once."""


def next_step(
    response: bytes, admitted: Accepted, pairing: UpstreamPairing, *, retry: Callable[[], None]
) -> Joined | Refused | Step | None:
    """Evaluate the upstream's response to `connect`; None if the frame is something else.

    For Step.PAIR, the approval has begun, and `retry` is called later.
    """
    read = read_connect_response(response, admitted)
    device_id = admitted.device_id
    if isinstance(read, Refused):
        request_id = read.pairing_request
        if request_id is None:
            return read
        begun = request_id and pairing.approve(device_id, request_id, retry)
    elif (
        read is not None
        and read.missing_scopes
        and device_id
        and not pairing.is_granted_less(device_id)
    ):
        begun = pairing.approve_pending(
            device_id, lambda request: is_covered(request, admitted), retry
        )
    else:
        return read
    return Step.PAIR if begun else Step.RETRY
