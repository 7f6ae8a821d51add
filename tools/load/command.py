"""Converts the command line to a plan."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from shared.addresses.typed import AddressError, approval_address, gateway_address
from shared.running import find_run
from tools.load.client.target import BadTarget, read_target
from tools.load.options import MAX_SOURCES, REMOTE, RUNNING, UsageError, make_parser
from tools.load.plan import (
    MAX_OPEN_IN_FLIGHT,
    REFUSAL_DEVICES,
    Bounds,
    Drop,
    Phase,
    Plan,
    Scenario,
    max_in_flight,
    ramp,
    sources_for,
)
from tools.load.server.subject import secrets_file

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence


def read_command(arguments: Sequence[str]) -> Plan:
    """Convert arguments to a plan; the default scenario is `closed`. Raises UsageError."""
    words = list(arguments)
    if not words or (words[0].startswith("-") and words[0] not in {"-h", "--help"}):
        words.insert(0, Scenario.CLOSED)
    given = make_parser().parse_args(words)
    try:
        _complete(given, os.environ)
        return _plan(given)
    except (BadTarget, AddressError) as error:
        raise UsageError(str(error)) from error


def _complete(given: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Fill in addresses from arguments, the environment, or the run on this machine."""
    run = find_run(secrets_file(environ))
    if given.url == RUNNING:
        if run is None:
            raise UsageError("--url: `make run` is not running here; give the gateway's address")
        given.url = run.gateway_url
    elif given.url:
        given.url = gateway_address(given.url)
    else:
        return
    given.approval_url = given.approval_url or environ.get("APPROVAL_URL", "").strip()
    if given.approval_url:
        given.approval_url = approval_address(given.approval_url)
    elif run is not None and run.is_gateway(given.url):
        given.approval_url = run.approval_url


def _plan(given: argparse.Namespace) -> Plan:
    scenario = Scenario(given.scenario)
    away = bool(given.url) and not read_target(given.url).is_loopback
    bounds = Bounds(given.allow_rate, given.allow_seconds, given.allow_connections)
    in_flight = given.in_flight or (REMOTE.in_flight if away else 64)
    phases = _phases(given, scenario, in_flight, pace=bounds.rate if away else None)
    connections = getattr(given, "connections", 0)
    if away and not given.remote:
        raise UsageError(
            f"{given.url} is not on this machine: add --remote to confirm that you may load it"
        )
    plan = Plan(
        scenario=scenario,
        phases=phases,
        connections=connections,
        seconds=getattr(given, "seconds", 0.0) if connections else 0.0,
        in_flight=in_flight,
        drop=Drop(getattr(given, "drop", Drop.CLIENT)),
        jitter=getattr(given, "jitter", 0.0),
        pace=bounds.rate if away else None,
        devices=_devices(given, scenario, connections, away=away),
        workers=given.workers,
        sources=given.sources
        or min(MAX_SOURCES, sources_for(max(in_flight, max_in_flight(phases)))),
        sources_given=given.sources is not None,
        timeout=given.timeout,
        shared_token=given.shared_token,
        url=given.url,
        approval_url=given.approval_url,
        watched=tuple(given.watch_pid),
        json_file=given.json,
        html_file=given.html,
    )
    if away and (problems := bounds.problems(plan)):
        raise UsageError(f"{given.url} is not on this machine: {'; '.join(problems)}")
    if plan.drop is Drop.RESTART and plan.url:
        raise UsageError(
            "--drop restart is for a temporary stack; use wait, and restart it yourself"
        )
    return plan


def _devices(given: argparse.Namespace, scenario: Scenario, connections: int, *, away: bool) -> int:
    if scenario is Scenario.REVOKE:
        return connections if given.each else 1
    if given.devices:
        return int(given.devices)
    if scenario is Scenario.REFUSALS:
        return REFUSAL_DEVICES
    return REMOTE.devices if away else 256


def _phases(
    given: argparse.Namespace, scenario: Scenario, in_flight: int, *, pace: float | None
) -> tuple[Phase, ...]:
    match scenario:
        case Scenario.CLOSED | Scenario.SOAK | Scenario.REFUSALS:
            main = Phase(scenario.value, given.seconds, in_flight, rate=pace)
        case Scenario.OPEN:
            maximum = given.in_flight or MAX_OPEN_IN_FLIGHT
            main = Phase(
                "open",
                given.seconds,
                maximum,
                rate=given.rate,
                is_open=True,
                poisson=given.poisson,
                seed=given.seed,
            )
        case Scenario.RAMP:
            if not given.step:
                raise UsageError("--step: must not be 0")
            maximum = given.in_flight or MAX_OPEN_IN_FLIGHT
            return ramp(given.first, given.last, given.step, given.seconds, maximum)
        case _:
            return ()
    warm_up = replace(main, name="warm-up", seconds=given.warm_up, counted=False)
    return (warm_up, main) if given.warm_up else (main,)
