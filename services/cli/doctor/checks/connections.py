"""Connection attempts, single or repeated, with their times."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from services.cli.doctor import causes, refusals
from services.cli.doctor.checks.websocket import why_no_socket
from services.cli.doctor.journey import NAME, Wrong
from shared.device.client import DeviceClient
from shared.device.errors import BrokenPeerError, NoAnswerError, UnreachableError
from shared.device.handshake import Credentials
from shared.device.profile import Profile
from shared.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from services.cli.doctor.journey import Journey
    from shared.device.handshake import Outcome
    from shared.device.identity import DeviceKey

_T = TypeVar("_T")

AT_ONCE: Final = 4
"""Connections attempted at the same time."""
COME_BACK_SECONDS: Final = 4.0
"""How long the doctor retries a gateway that asks it to, because of its upstream."""
RECONNECT_MIN_SECONDS: Final = 0.1
PROBE: Final = Profile(
    client_id="openclaw-probe",
    mode="probe",
    version=VERSION,
    display_name=NAME,
    min_protocol=3,
)
"""The doctor's own client profile: both protocol versions, no scopes."""


@dataclass(frozen=True, slots=True)
class Connected:
    """Outcome of a connection attempt with start and end, in seconds of the monotonic clock."""

    outcome: Outcome
    begun_at: float
    done_at: float


async def connect(
    journey: Journey,
    profile: Profile,
    key: DeviceKey | None,
    credentials: Credentials | None = None,
    *,
    origin: str | None = None,
) -> Connected:
    """Connect and return the outcome; raises Wrong if there is none.

    A gateway with an upstream asks a client from a new address to retry; it is retried for a few
    seconds.
    """
    deadline = time.monotonic() + COME_BACK_SECONDS
    while True:
        connected = await _connect_once(journey, profile, key, credentials, origin=origin)
        outcome = connected.outcome
        if not refusals.has_to_come_back(outcome) or time.monotonic() > deadline:
            return connected
        await asyncio.sleep(max(RECONNECT_MIN_SECONDS, (outcome.retry_after_ms or 0) / 1000))


async def _connect_once(
    journey: Journey,
    profile: Profile,
    key: DeviceKey | None,
    credentials: Credentials | None,
    *,
    origin: str | None,
) -> Connected:
    begun_at = time.monotonic()
    try:
        async with DeviceClient(
            journey.url,
            key,
            profile,
            credentials=credentials,
            origin=origin,
            timeouts=journey.options.timeouts,
            session=journey.session,
        ) as device:
            outcome = await device.connect()
            return Connected(outcome, begun_at, time.monotonic())
    except UnreachableError as error:
        raise await why_no_socket(journey, error) from None
    except NoAnswerError as error:
        raise Wrong(causes.CUT, str(error)) from None
    except BrokenPeerError as error:
        raise Wrong(causes.NOT_A_GATEWAY, str(error)) from None


async def repeat(
    journey: Journey, once: Callable[[], Awaitable[_T]]
) -> tuple[list[_T], list[Wrong]]:
    """Run the configured number of attempts, AT_ONCE at a time; return results and errors.

    Stops early if a secret is refused, because more attempts would lock this address out.
    """
    came: list[_T] = []
    trouble: list[Wrong] = []

    async def attempt() -> None:
        try:
            came.append(await once())
        except Wrong as wrong:
            trouble.append(wrong)

    left = journey.options.connections
    while left > 0 and not any(wrong.cause in refusals.SECRETS_REFUSED for wrong in trouble):
        await asyncio.gather(*(attempt() for _ in range(min(left, AT_ONCE))))
        left -= AT_ONCE
    return came, trouble


def shared_secrets(journey: Journey) -> Credentials | None:
    """Return the gateway token and, for OpenClaw, the password; None if there is neither."""
    token = journey.config.gateway_token_for(journey.url)
    password = journey.config.text("OPENCLAW_GATEWAY_PASSWORD") or None
    if journey.is_latchkey:
        password = None
    return Credentials(token=token, password=password) if token or password else None
