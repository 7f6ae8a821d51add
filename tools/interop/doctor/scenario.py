"""The doctor's findings at real gateways, and a check that it leaves nothing behind."""

from __future__ import annotations

import asyncio
import re
import shlex
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from services.cli.doctor import openclaw_causes
from services.cli.doctor.journey import NAME, State
from shared.device.identity import DeviceKey
from shared.device.state import DeviceState, load
from tools.interop.doctor.gateway import TOKEN, RealGateway
from tools.interop.facts import Facts, Unexpected, either
from tools.support.proxies.balancer import balancer
from tools.support.proxies.websocket import Faults, proxy
from tools.support.walking import findings_of

if TYPE_CHECKING:
    from pathlib import Path

    from services.cli.doctor.journey import Finding

FORWARDED: Final = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}
WELL: Final = "nothing is wrong"
RELOAD_SECONDS: Final = 20.0
RESTART: Final = "Restart the gateway"
ELSEWHERE: Final = "https://panel.example"
CONNECTIONS: Final = 8


@dataclass
class DoctorScenario:
    """Two gateways with separate state, and device files."""

    gateways: tuple[RealGateway, RealGateway]
    directory: Path

    async def one_gateway(self) -> Facts:
        """Examine one gateway."""
        findings = await self._findings(self.gateways[0].ws_url)
        return (_cause(findings), _processes(findings), await self._left())

    async def two_replicas(self) -> Facts:
        """Examine two gateways behind one address."""
        async with balancer([gateway.port for gateway in self.gateways]) as port:
            findings = await self._findings(f"ws://127.0.0.1:{port}")
        return (_cause(findings), _processes(findings), await self._left())

    async def asked(self) -> Facts:
        """Have both create requests for one device: the request ids differ."""
        async with balancer([gateway.port for gateway in self.gateways]) as port:
            findings = await self._findings(f"ws://127.0.0.1:{port}", pairing_probe=True)
        ids = set(re.findall(r"[0-9a-f-]{36}", findings[-1].found))
        return (_cause(findings), f"{len(ids)} request ids", await self._left())

    async def asked_one(self) -> Facts:
        """Have one gateway create requests for one device: the request id stays the same."""
        findings = await self._findings(self.gateways[1].ws_url, pairing_probe=True)
        same = any(finding.found.endswith("there is one device list") for finding in findings)
        return (_cause(findings), either(same, "1 request id", "other ids"))

    async def no_token(self) -> Facts:
        """Connect without a token, and with a wrong one."""
        url = self.gateways[0].ws_url
        without = await findings_of(url)
        wrong = await findings_of(url, env={"OPENCLAW_GATEWAY_TOKEN": "w" * 32})
        return (_cause(without), _cause(wrong))

    async def foreign_origin(self) -> Facts:
        """Connect from a foreign origin, apply the doctor's cure, and retry."""
        gateway = self.gateways[0]
        before = await self._findings(gateway.ws_url, origin=ELSEWHERE)
        if RESTART in await _apply_cure(gateway, before[-1]):
            return (_cause(before), "wants a restart")
        after = await self._until_well(gateway.ws_url, origin=ELSEWHERE)
        return (_cause(before), after)

    async def untrusted_proxy(self) -> Facts:
        """Connect through an untrusted proxy, then trust it."""
        gateway = self.gateways[0]
        async with proxy(gateway.http_url, Faults(headers=FORWARDED)) as url:
            findings = await self._findings(url)
            if _cause(findings) == WELL:
                return (WELL,)
            log = gateway.log.read_text()
            seen = "observed unattributable proxy-shaped traffic from 127.0.0.1" in log
            await _apply_cure(gateway, findings[-1], ADDRESS="127.0.0.0/8")
            after = await self._until_well(url)
        logged = either(seen, "the log names the proxy", "nothing in the log")
        return (_cause(findings), logged, after)

    async def own_device(self) -> Facts:
        """Use the user's own device, before and after approval as the doctor recommends."""
        gateway, file = self.gateways[1], self._new_device()
        before = await self._findings(gateway.ws_url, state_file=file)
        latest = await gateway.command("devices", "approve", "--latest")
        still = await self._findings(gateway.ws_url, state_file=file)
        if still[-1].state is State.WRONG:
            await _apply_cure(gateway, still[-1])
        after = await self._findings(gateway.ws_url, state_file=file)
        return (
            _cause(before),
            f"--latest exits {latest.status}, then {_cause(still)}",
            _cause(after),
        )

    async def forgotten_device(self) -> Facts:
        """Have the gateway lose a paired device, as it does without a volume."""
        gateway, file = self.gateways[1], self._new_device()
        before = await self._findings(gateway.ws_url, state_file=file)
        await _apply_cure(gateway, before[-1])
        paired = await self._findings(gateway.ws_url, state_file=file)
        await gateway.command("devices", "remove", load(file).key.device_id)
        after = await self._findings(gateway.ws_url, state_file=file)
        return (_cause(paired), _cause(after))

    async def commands(self) -> Facts:
        """Request the help of every command that the causes mention."""
        named = {
            tuple(command.split())
            for cause in openclaw_causes.ALL
            for command in re.findall(r"`openclaw ([a-z-]+(?: [a-z-]+)?)", cause.cure)
        }
        helps = {
            command: (await self.gateways[0].command(*command, "--help")).out for command in named
        }
        unknown = [
            " ".join(command)
            for command, text in helps.items()
            if f"openclaw {' '.join(command)}" not in text
        ]
        return tuple(sorted(unknown)) or ("all exist",)

    async def _findings(self, url: str, **wishes: Any) -> list[Finding]:
        env = {"OPENCLAW_GATEWAY_TOKEN": TOKEN}
        return await findings_of(url, env=env, connections=CONNECTIONS, **wishes)

    async def _until_well(self, url: str, **wishes: Any) -> str:
        """Examine until nothing is wrong: the gateway reloads changed settings with a delay."""
        cause = ""
        with suppress(TimeoutError):
            async with asyncio.timeout(RELOAD_SECONDS):
                while cause != WELL:
                    cause = _cause(await self._findings(url, **wishes))
        return cause

    def _new_device(self) -> Path:
        file = self.directory / f"device-{len(list(self.directory.glob('device-*')))}.json"
        DeviceState(DeviceKey.generate()).save(file)
        return file

    async def _left(self) -> str:
        """Return what the doctor has left at both gateways."""
        waiting = paired = 0
        for gateway in self.gateways:
            devices = await gateway.devices()
            waiting += sum(request.get("displayName") == NAME for request in devices["pending"])
            paired += sum(device.get("displayName") == NAME for device in devices["paired"])
        return f"left: {waiting} requests, {paired} devices"


def _cause(findings: list[Finding]) -> str:
    """Return the cause of the finding, or that nothing is wrong."""
    last = findings[-1]
    if last.state is State.WRONG and last.cause is not None:
        return last.cause.id
    return WELL


def _processes(findings: list[Finding]) -> str:
    text = next(finding.found for finding in findings if finding.step == "replicas")
    found = re.search(r"by (\d+) (?:OpenClaw )?process", text)
    return f"processes: {found[1]}" if found else text


async def _apply_cure(gateway: RealGateway, finding: Finding, **values: str) -> str:
    """Run the recommended command on the gateway's machine and return its output."""
    commands = re.findall(r"`openclaw ([^`]+)`", finding.cure)
    fit = [command for command in commands if command.startswith(("devices approve", "config set"))]
    if not fit:
        raise Unexpected(f"no command in: {finding.cure}")
    command = fit[0]
    for name, value in values.items():
        command = command.replace(name, value)
    ran = await gateway.command(*shlex.split(command))
    if ran.status:
        raise Unexpected(f"openclaw {command}: {ran.reason()}")
    return ran.out
