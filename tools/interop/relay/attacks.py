"""Attacks by clients with few rights or none, through the relay and around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import aiohttp

from services.gateway.relay.rules.headers import SCOPES_HEADER
from shared.device.client import DeviceClient
from shared.device.handshake import Admitted
from shared.device.identity import DeviceKey
from shared.device.profile import CLI, CONTROL_UI
from shared.upstream import CLIENT_USER, RELAY_USER, header_names
from tools.interop.cases import Case
from tools.interop.facts import Facts, either, once
from tools.interop.relay.setup import SECRET, Relayed

if TYPE_CHECKING:
    from tools.interop.relay.setup import Setup
    from tools.interop.ui.browser import Browser

_LIST: Final = "device.pair.list"
_SPELLINGS: Final = (
    '{"type":"req","id":"x","method":"device\\u002epair.list","params":{}}',
    '{"type":"req","id":"x","method":"config.get","method":"device.pair.list","params":{}}',
    '{"type":"req","id":"x","\\u006dethod":"device.pair.list","params":{}}',
    '{"type":"req","id":"x","method":"d\\u0065vice.pair.list","params":{}}',
)
"""Spellings of a method that the gateway itself serves."""
_FOREIGN: Final = "https://elsewhere.example"


class AttackScenario:
    """An attacker whose device may only read, and one without a device."""

    def __init__(self, setup: Setup, _browser: Browser) -> None:
        self._setup = setup

    async def reads_only(self) -> Facts:
        """Try to change the upstream's configuration with a device that may only read."""
        client = await self._setup.joined(0, CLI.with_scopes("operator.read"), "198.51.100.20")
        answer = await client.call("config.set", {"raw": "{}", "baseHash": "0"})
        read = await client.call("sessions.list", {})
        return (
            either(answer.ok, "set", str((answer.error or {}).get("message"))),
            either(read.ok, "it may read", f"{read.error}"),
        )

    async def spelled(self) -> Facts:
        """Ask for the devices in other spellings: only Latchkey's list is returned.

        It contains a device that the upstream does not know, because it has never connected.
        """
        setup = self._setup
        profile = CLI.with_scopes("operator.read", "operator.pairing")
        client = await setup.joined(1, profile, "198.51.100.21")
        stays_away = Relayed(setup.stack, address="198.51.100.24")
        (await setup.operator.approve(await stays_away.request_pairing(setup.gateways[0]))).ok()
        known = await setup.known_upstream()
        found = [either(stays_away.device_id in known, "known upstream", "unknown upstream")]
        for frame in _SPELLINGS:
            await client.send_text(frame)
            payload = (await client.next_stray()).payload or {}
            ids = {item["deviceId"] for item in payload.get("paired", [])}
            ours = stays_away.device_id in ids
            found.append(either(ours, "our list", f"{frame} is answered {payload}"))
        return once(found)

    async def forged(self) -> Facts:
        """Connect through a gateway with headers that name the relay's user and rights."""
        setup = self._setup
        names = header_names(SECRET)
        attacker = await setup.device(0, CLI.with_scopes("operator.read"), "198.51.100.22")
        attacker.headers = {
            names.user: RELAY_USER,
            names.required: "1",
            SCOPES_HEADER: "operator.admin",
            "Forwarded": "for=127.0.0.1",
            "X-Real-IP": "127.0.0.1",
            "Tailscale-User-Login": "owner",
        }
        client = await attacker.connect_when_ready(setup.gateways[0])
        setup.ending.push_async_callback(client.close)
        answer = await client.call("config.set", {"raw": "{}", "baseHash": "0"})
        without = DeviceClient(
            setup.gateways[0].ws_url,
            None,
            CLI.with_scopes("operator.admin"),
            token=setup.stack.gateway_token,
            headers={"X-Forwarded-For": "198.51.100.22", **attacker.headers},
        )
        async with without:
            outcome = await without.connect()
            refused = await _may_not(without) if isinstance(outcome, Admitted) else "refused"
        return (
            either(answer.ok, "set", str((answer.error or {}).get("message"))),
            f"without a device: {refused}",
        )

    async def foreign(self) -> Facts:
        """Connect as a page of another origin."""
        setup = self._setup
        attacker = Relayed(setup.stack, profile=CONTROL_UI, address="198.51.100.23")
        client = DeviceClient(
            setup.gateways[0].ws_url,
            attacker.key,
            CONTROL_UI,
            token=setup.stack.gateway_token,
            origin=_FOREIGN,
            headers={"X-Forwarded-For": attacker.address},
        )
        async with client:
            outcome = await client.connect()
        return (getattr(outcome, "detail_code", "admitted"),)

    async def straight(self) -> Facts:
        """Connect to the upstream itself, without headers and with guessed header names."""
        names = header_names(SECRET)
        found = []
        for headers in (
            {},
            {"X-Forwarded-User": RELAY_USER, "X-Forwarded-For": "203.0.113.9"},
            {names.user: RELAY_USER},
            {names.user: "somebody", names.required: "1", "X-Forwarded-For": "203.0.113.9"},
            {names.required: "1", "X-Forwarded-For": "203.0.113.9"},
        ):
            client = DeviceClient(
                self._setup.upstream.ws_url,
                DeviceKey.generate(),
                CLI,
                token=self._setup.stack.gateway_token,
                headers=headers,
            )
            async with client:
                found.append(await _outcome(client))
        return once(found)

    async def over_http(self) -> Facts:
        """Read the upstream's configuration over HTTP with forged headers, and no bearer."""
        names = header_names(SECRET)
        headers = {names.user: CLIENT_USER, names.required: "1", SCOPES_HEADER: "operator.admin"}
        site = self._setup.gateways[0].url
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{site}/control-ui-config.json", headers=headers) as answer,
        ):
            return (f"HTTP {answer.status}",)


async def _outcome(client: DeviceClient) -> str:
    try:
        outcome = await client.connect()
    except Exception as error:  # noqa: BLE001 (however it refuses)
        return either("403" in str(error), "refused", f"{type(error).__name__}: {error}")
    return either(isinstance(outcome, Admitted), "admitted", "refused")


async def _may_not(client: DeviceClient) -> str:
    answer = await client.call("config.set", {"raw": "{}", "baseHash": "0"})
    message: Any = (answer.error or {}).get("message")
    return either(answer.ok, "set", str(message))


CASES: Final = (
    Case(
        "config.set, reads only",
        AttackScenario.reads_only,
        ("missing scope: operator.admin", "it may read"),
    ),
    Case(
        "device.pair.list, other spellings",
        AttackScenario.spelled,
        ("unknown upstream", "our list"),
    ),
    Case(
        "forged headers",
        AttackScenario.forged,
        ("missing scope: operator.admin", "without a device: missing scope: operator.admin"),
    ),
    Case("a foreign Origin", AttackScenario.foreign, ("CONTROL_UI_ORIGIN_NOT_ALLOWED",)),
    Case("straight to the upstream", AttackScenario.straight, ("refused",)),
    Case("forged headers over HTTP", AttackScenario.over_http, ("HTTP 401",)),
)
