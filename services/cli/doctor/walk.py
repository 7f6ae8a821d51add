"""Run the doctor's steps, in the order for each product."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from services.cli.doctor.checks import backend, device, http, network, websocket
from services.cli.doctor.journey import Finding, Journey, Options, State, Wrong
from services.cli.doctor.openclaw import pairing, replicas
from services.cli.doctor.product import Kind, Product
from shared.device.identity import DeviceKey
from shared.device.opening import new_session
from shared.device.state import load

if TYPE_CHECKING:
    from services.cli.config import Config

Step = Callable[[Journey], Awaitable[None]]
Steps = tuple[tuple[str, Step], ...]

TO_THE_GATEWAY: Final[Steps] = (
    ("name", network.look_up),
    ("tcp", network.connect),
    ("tls", network.secure),
    ("http", http.ask),
    ("upgrade", websocket.check_websocket),
    ("origin", device.try_origin),
    ("token", device.authenticate),
)
AT_LATCHKEY: Final[Steps] = (
    ("replicas", backend.survey),
    ("health", backend.read_health),
    ("approval", backend.ask_approval),
    ("settings", backend.look_at_settings),
)
AT_OPENCLAW: Final[Steps] = (
    ("replicas", replicas.count_processes),
    ("state", replicas.report_state),
    ("pairing", pairing.ask_to_pair),
    ("lists", replicas.check_lists),
)


@dataclass(frozen=True, slots=True)
class Walk:
    """Findings, and the product that answered."""

    findings: list[Finding]
    product: Product


async def walk(
    url: str,
    options: Options,
    config: Config,
    tell: Callable[[Finding], None],
    *,
    now: Callable[[], float] | None = None,
) -> Walk:
    """Run all steps up to the first problem and return the findings.

    Raises StateError if the state file cannot be used.
    """
    tls = ssl.create_default_context()
    state = load(options.state_file) if options.state_file else None
    async with new_session(tls) as session:
        journey = Journey(url, options, config, session, tls, tell, state)
        journey.key = state.key if state else DeviceKey.generate()
        if now is not None:
            journey.now = now
        try:
            await _take(TO_THE_GATEWAY, journey)
            is_openclaw = journey.product.kind is Kind.OPENCLAW
            await _take(AT_OPENCLAW if is_openclaw else AT_LATCHKEY, journey)
        except Wrong as wrong:
            journey.wrong(wrong)
    return Walk(journey.findings, journey.product)


async def _take(steps: Steps, journey: Journey) -> None:
    for name, step in steps:
        journey.step = name
        await step(journey)


def is_well(findings: list[Finding]) -> bool:
    """Return whether no problem was found."""
    return all(finding.state is not State.WRONG for finding in findings)
