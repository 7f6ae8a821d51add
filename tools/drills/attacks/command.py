"""`make drill ARGS=--attacks`: options, the run, and what it prints."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import uvloop

from deploy.local.errors import RunError
from deploy.local.places import ROOT
from tools.drills.attacks import ALL
from tools.drills.attacks.attack import ATTACK_SECONDS
from tools.drills.attacks.run import DEVICES, STORM_SECONDS, Size, run_attack
from tools.drills.attacks.table import LEGEND, table
from tools.drills.judging import exits
from tools.load.client.dialer import raise_descriptor_limit

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from tools.drills.attacks.attack import Attack
    from tools.drills.attacks.judge import Verdict
    from tools.drills.attacks.observed import Observed

REASONS_SHOWN: Final = 5


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the attacks."""
    group = parser.add_argument_group("attacks")
    group.add_argument("--scale", type=float, default=1.0, help="part of each attack (default 1)")
    group.add_argument(
        "--seconds",
        type=float,
        help=f"duration of an attack (default {ATTACK_SECONDS:g}, of a storm {STORM_SECONDS:g})",
    )
    group.add_argument(
        "--devices",
        type=int,
        default=DEVICES,
        help=f"how many devices are dropped at once (default {DEVICES})",
    )
    group.add_argument(
        "--code",
        type=Path,
        default=ROOT,
        help="clone whose services are attacked, to compare with an earlier commit",
    )


def run_attacks(parser: argparse.ArgumentParser, given: argparse.Namespace) -> int:
    """Run the chosen attacks and return the exit status."""
    attacks = [
        attack
        for attack in ALL
        if not given.only or any(word in attack.name for word in given.only)
    ]
    if not attacks:
        parser.error(f"no attack matches; available: {'; '.join(item.name for item in ALL)}")
    if sys.platform != "linux":
        print("make drill ARGS=--attacks needs Linux.", file=sys.stderr)
        return exits.MISSING
    raise_descriptor_limit()
    size = Size(
        scale=given.scale,
        seconds=given.seconds or ATTACK_SECONDS,
        storm_seconds=given.seconds or STORM_SECONDS,
        devices=given.devices,
        code=given.code.resolve(),
    )
    return exits.run_logged(
        lambda data: _run(attacks, size, data, given.json),
        prefix="latchkey-attacks-",
        file=given.json,
    )


def _run(attacks: Sequence[Attack], size: Size, data: Path, file: Path | None) -> int:
    began = time.monotonic()
    results: list[tuple[Observed, Verdict]] = []
    for number, attack in enumerate(attacks):
        try:
            seen, verdict = uvloop.run(run_attack(attack, size, data / f"{number + 1}"))
        except RunError as error:
            print(f"{attack.name} was aborted: {error}", file=sys.stderr)
            continue
        results.append((seen, verdict))
        _print_result(seen, verdict)
        if file is not None:
            file.write_text(json.dumps([_as_json(*result) for result in results], indent=2) + "\n")
    held = len(results) == len(attacks) and not any(verdict.violations for _, verdict in results)
    print(f"\n{table([(seen.attack, verdict) for seen, verdict in results])}\n\n{LEGEND}")
    status = exits.HELD if held else exits.VIOLATED
    took = time.monotonic() - began
    print(f"\n{len(results)} attacks, {took:.0f} s: {exits.verdict_of(status)}")
    return status


def _print_result(seen: Observed, verdict: Verdict) -> None:
    outcome = "VIOLATED" if verdict.violations else "held"
    stalled = f"; the drill itself was {seen.drill_stalled:.1f} s late"
    print(f"{seen.attack}: {outcome}{stalled if seen.drill_stalled > 0.5 else ''}", flush=True)
    for violation in verdict.violations:
        print(f"  {violation}", flush=True)
    for what, samples in (("health", seen.health), ("newcomers", seen.newcomers)):
        if reasons := _reasons([sample.why for sample in samples]):
            print(f"  {what}: {reasons}", flush=True)
    if seen.storm is not None:
        storm = seen.storm
        print(
            f"  closed loop {storm.closed_rate:.0f}/s; {storm.completed} of {storm.offered} "
            f"completed; at most {storm.in_flight_maximum} in flight; clients used "
            f"{storm.clients_busy:.2f} CPUs, at most {storm.clients_late:.1f} s late",
            flush=True,
        )
        if storm.goodput is not None:
            print(f"  goodput {storm.goodput:.0f}/s", flush=True)
        if storm.dropped:
            print(
                f"  work {storm.work_seconds:.1f} s; 99 % back after {storm.most_back_seconds} s, "
                f"all after {storm.back_seconds} s",
                flush=True,
            )
        print(f"  outcomes: {dict(storm.outcomes[:8])}", flush=True)


def _reasons(reasons: Sequence[str]) -> str:
    counts: dict[str, int] = {}
    for reason in filter(None, reasons):
        counts[reason] = counts.get(reason, 0) + 1
    most = sorted(counts.items(), key=lambda item: -item[1])[:REASONS_SHOWN]
    return ", ".join(f"{count} x {reason}" for reason, count in most)


def _as_json(seen: Observed, verdict: Verdict) -> dict[str, Any]:
    return {
        "attack": seen.attack,
        "verdict": asdict(verdict),
        "storm": asdict(seen.storm) if seen.storm else None,
        "drillStalled": seen.drill_stalled,
    }
