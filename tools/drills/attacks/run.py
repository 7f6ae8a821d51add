"""One attack on a stack of its own: pair, observe, attack, watch the recovery, judge."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from deploy.local.places import ROOT
from tools.drills.attacks.attack import ATTACK_SECONDS, Newcomers, Target
from tools.drills.attacks.attacker import attacking
from tools.drills.attacks.judge import judge
from tools.drills.attacks.observed import Observed
from tools.drills.attacks.observer import Observer
from tools.drills.attacks.storms import StormScene
from tools.load.client.dialer import Dialer, Unreachable, loopback_sources
from tools.load.client.target import read_target
from tools.load.plan import Plan, Scenario
from tools.load.report.display import Display
from tools.load.server.approval import Approval
from tools.load.server.pairing import Caller, new_identities, pair
from tools.load.server.subject import own
from tools.load.workers.processes import WorkersError
from tools.support.processes.stack import Stack

if TYPE_CHECKING:
    from pathlib import Path

    from tools.drills.attacks.attack import Attack
    from tools.drills.attacks.judge import Verdict
    from tools.load.client.devices import Identity

GATEWAYS: Final = 2
SETTINGS: Final = {"TRUSTED_PROXIES": "127.0.0.1/32"}
"""Clients use other addresses; an attack behind a proxy uses this one."""
SESSIONS: Final = 20
VISITORS: Final = 20
STORM_IDENTITIES: Final = 256
CALM_SECONDS: Final = 1.0
RECOVERY_SECONDS: Final = 15.0
"""How long the services are observed after an attack: longer than a lease."""
PAIRING_SOURCES: Final = 8
ATTEMPT_SECONDS: Final = 15.0
STORM_SECONDS: Final = 60.0
DEVICES: Final = 20_000
CASE_SECONDS: Final = 900.0
"""A case ends after this, whatever happens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How large and how long attacks are, and whose services are attacked."""

    scale: float = 1.0
    seconds: float = ATTACK_SECONDS
    storm_seconds: float = STORM_SECONDS
    devices: int = DEVICES
    sessions: int = SESSIONS
    recovery_seconds: float = RECOVERY_SECONDS
    code: Path = ROOT


async def run_attack(attack: Attack, size: Size, directory: Path) -> tuple[Observed, Verdict]:
    """Carry out an attack. An error that ends it is part of the observations."""
    seen = Observed(attack=attack.name, serves_newcomers=attack.newcomers is not Newcomers.NOBODY)
    env = SETTINGS if attack.storm is None else {}
    stack = Stack(
        directory,
        gateways=GATEWAYS,
        gateway_env={**env, **attack.gateway_settings},
        code=size.code,
    )
    try:
        async with asyncio.timeout(CASE_SECONDS):
            await asyncio.to_thread(stack.start)
            await _attack_and_watch(attack, size, stack, seen)
    except (AssertionError, TimeoutError, OSError, WorkersError, Unreachable) as error:
        seen.broken = str(error) or type(error).__name__
    finally:
        await asyncio.to_thread(stack.close)
    return seen, judge(seen)


async def _attack_and_watch(attack: Attack, size: Size, stack: Stack, seen: Observed) -> None:
    now = asyncio.get_running_loop().time
    identities = await _paired(stack, size.sessions + VISITORS)
    observer = Observer(stack, identities[: size.sessions], identities[size.sessions :], seen)
    crowd = await _paired(stack, STORM_IDENTITIES) if attack.storm is not None else []

    def begin(at: float) -> None:
        seen.began = at

    def over() -> None:
        seen.over = now()

    try:
        await observer.enter()
        await asyncio.sleep(CALM_SECONDS)
        if attack.storm is not None:
            scene = StormScene(
                system=own(stack, Plan(scenario=Scenario.OPEN)),
                identities=crowd,
                display=Display(),
                gateways=[read_target(gateway.ws_url) for gateway in stack.gateways],
                seconds=size.storm_seconds,
                devices=size.devices,
                begin=begin,
                over=over,
            )
            seen.storm = await attack.storm(scene)
        else:
            assert attack.do is not None
            target = Target(
                gateway_port=stack.gateways[0].port,
                approval_port=stack.approvals[0].port,
                gateway_token=stack.gateway_token,
                scale=size.scale,
            )
            async with attacking(attack.do, target) as process:
                begin(now())
                await asyncio.sleep(size.seconds)
                if not process.is_alive():
                    seen.broken = f"the attacker ended with status {process.exitcode}"
            over()
        await asyncio.sleep(size.recovery_seconds)
    finally:
        seen.over = seen.over or now()
        seen.until = now()
        observer.count()
        with contextlib.suppress(Exception):
            await observer.leave()


async def _paired(stack: Stack, count: int) -> list[Identity]:
    target = read_target(stack.gateways[0].ws_url)
    dialer = Dialer(target, loopback_sources(PAIRING_SOURCES))
    await dialer.prepare()
    async with Approval(stack.approvals[0].url, stack.admin_token) as approval:
        return await pair(
            new_identities(count),
            caller=Caller(target, dialer, ATTEMPT_SECONDS),
            approval=approval,
            gateway_token=stack.gateway_token,
            shared_token=False,
            done=lambda _: None,
        )
