"""The order of the way."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final

from services.approval.cli.doctor import asking, behind, knocking, opening, reaching
from services.approval.cli.doctor.journey import Finding, Journey, State, Wishes, Wrong
from shared.device.identity import DeviceKey
from shared.device.opening import new_session
from shared.device.state import load

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.approval.cli.surroundings import Surroundings

STEPS: Final = (
    ("name", reaching.look_up),
    ("tcp", reaching.connect),
    ("tls", reaching.secure),
    ("http", asking.ask),
    ("upgrade", opening.open_and_listen),
    ("origin", knocking.try_origin),
    ("token", knocking.come_in),
    ("replicas", behind.survey),
    ("health", behind.read_health),
    ("approval", behind.ask_approval),
    ("settings", behind.look_at_settings),
)


async def walk(
    url: str,
    wishes: Wishes,
    surroundings: Surroundings,
    tell: Callable[[Finding], None],
    *,
    now: Callable[[], float] | None = None,
) -> list[Finding]:
    """Walk the way and return what was found; the last but the withdrawal is wrong, or nothing is.

    Raises StateError where a state file is given that cannot be used.
    """
    tls = ssl.create_default_context()
    state = load(wishes.state_file) if wishes.state_file else None
    async with new_session(tls) as session:
        journey = Journey(url, wishes, surroundings, session, tls, tell, state)
        journey.key = state.key if state else DeviceKey.generate()
        if now is not None:
            journey.now = now
        try:
            for name, step in STEPS:
                journey.step = name
                await step(journey)
        except Wrong as wrong:
            journey.wrong(wrong)
        finally:
            await behind.withdraw(journey)
    return journey.findings


def is_well(findings: list[Finding]) -> bool:
    """Say whether nothing ended the way."""
    return all(one.state is not State.WRONG for one in findings)
