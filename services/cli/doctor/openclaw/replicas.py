"""Count the processes of a plain OpenClaw gateway, and find their state directory.

This changes nothing: a client without a device is admitted with the gateway token, has no scopes,
and learns which process it is connected to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.cli.doctor import openclaw_causes, refusals
from services.cli.doctor.checks.backend import disagreement
from services.cli.doctor.checks.connections import PROBE, connect, repeat, shared_secrets
from services.cli.doctor.journey import Wrong
from services.cli.doctor.openclaw.processes import processes, sighting, state_directory
from services.cli.text.words import length
from shared.device.handshake import Admitted

if TYPE_CHECKING:
    from services.cli.doctor.journey import Journey
    from services.cli.doctor.openclaw.processes import Process, Sighting


async def count_processes(journey: Journey) -> None:
    """Connect several times without a device and report which processes answered."""
    secrets = shared_secrets(journey)
    if secrets is None:
        journey.note("not counted: this requires the gateway token")
        return

    async def once() -> Sighting | None:
        came = await connect(journey, PROBE, None, secrets)
        outcome = came.outcome
        if isinstance(outcome, Admitted):
            return sighting(outcome.hello, asked_at=came.begun_at, answered_at=came.done_at)
        if outcome.detail_code == refusals.DEVICE_REQUIRED:
            return None
        raise refusals.wrong(journey, outcome)

    came, trouble = await repeat(journey, once)
    seen = [item for item in came if item is not None]
    journey.processes = processes(seen)
    where = ", ".join(_named(process) for process in journey.processes)
    if trouble:
        raise disagreement(len(came), trouble, where or "unknown processes")
    if not seen:
        journey.note("not counted: this gateway accepts no secret from a client without a device")
        return
    number = len(journey.processes)
    if number == 1:
        journey.ok(f"all {len(seen)} connections were answered by 1 OpenClaw process: {where}")
    else:
        journey.note(f"{len(seen)} connections were answered by {number} processes: {where}")


async def report_state(journey: Journey) -> None:
    """Report where the state is, and that its persistence cannot be checked from here."""
    directory = state_directory(journey.hello or {})
    where = f" in {directory}" if directory else ""
    journey.note(
        f"OpenClaw keeps its device list{where}. Whether it is on a volume cannot be"
        " checked from here; if devices need approval again after each deploy, it is not"
    )


async def check_lists(journey: Journey) -> None:
    """Report several processes as several device lists."""
    number = len(journey.processes)
    if number > 1:
        found = f"{number} OpenClaw processes answer here, so there are {number} device lists"
        if not journey.options.pairing_probe:
            found += " (--pairing-probe compares them)"
        raise Wrong(openclaw_causes.SEPARATE_LISTS, found)


def _named(process: Process) -> str:
    name = process.name or process.version or "unnamed"
    ran = length(round(process.uptime_seconds * 1000))
    return f"{name} ({process.connections}, started {ran} ago)"
