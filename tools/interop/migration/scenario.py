"""A real OpenClaw and its devices: they move to Latchkey, and others move back.

Each method is one case and returns the facts it observed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from services.cli.migration.location import locate
from services.cli.migration.reading import read_records
from shared.device.client import DeviceClient
from shared.device.handshake import Admitted, Credentials
from shared.device.identity import DeviceKey
from shared.device.profile import CLI, NODE_HOST
from tools.interop.doctor.gateway import TOKEN, real_gateway
from tools.interop.facts import Facts, Unexpected, either
from tools.interop.migration.command import move
from tools.interop.migration.devices import PairedDevice, for_protocol, pair_devices
from tools.interop.reference.roles import Role

if TYPE_CHECKING:
    from pathlib import Path

    from shared.device.handshake import Outcome
    from shared.device.profile import Profile
    from tools.interop.latchkey import Latchkey
    from tools.interop.reference.client import Device, Reference

CURRENT: Final = 4
_MISMATCH: Final = "AUTH_DEVICE_TOKEN_MISMATCH"
ROLES: Final = (
    Role("operator", ["operator.read"], {"clientName": "cli", "mode": "cli"}),
    Role("node", [], {"clientName": "node-host", "mode": "node"}),
)
"""Clients that an OpenClaw on the same machine pairs by itself."""


class MigrationScenario:
    """One OpenClaw state directory. Its cases are run in order."""

    def __init__(self, latchkey: Latchkey, reference: Reference, protocol: int, home: Path) -> None:
        self._latchkey = latchkey
        self._reference = reference
        self._protocol = protocol
        self._home = home
        self._state = home / "state"
        self._paired: list[PairedDevice] = []
        self._clients: list[tuple[Role, Device]] = []

    async def paired(self) -> Facts:
        """Pair devices and, for protocol 4, reference clients; export while OpenClaw runs."""
        async with real_gateway(self._protocol, self._home) as gateway:
            self._paired = await pair_devices(gateway)
            if self._protocol == CURRENT:
                for role in ROLES:
                    self._clients.append((role, await self._joined(gateway.ws_url, role)))
            await move(self._latchkey, "import", self._state, "--dry-run")
            running = "not tried"
            if self._protocol == CURRENT:
                await self._pair_here("operator")
                refused = await move(self._latchkey, "export", self._state, "--yes")
                running = refused.get("error", {}).get("name", "written")
        return f"{len(self._paired)} devices", f"{len(self._clients)} clients", running

    async def planned(self) -> Facts:
        """Show the plan."""
        plan = await move(self._latchkey, "import", self._state, "--dry-run")
        _, listed = await self._latchkey.call("GET", "/v1/devices")
        known = {device["deviceId"] for device in listed["devices"]}
        imported = {one["deviceId"] for one in plan["devices"]}
        return (*_counts(plan), either(not known & imported, "nothing changed", "changed"))

    async def imported(self) -> Facts:
        """Import, twice."""
        first = await move(self._latchkey, "import", self._state, "--yes")
        second = await move(self._latchkey, "import", self._state, "--yes")
        return *_counts(first), "then", *_counts(second)

    async def returned(self) -> Facts:
        """Connect each device with only the token that OpenClaw gave it, twice."""
        found = _tokens_in(self._state)
        facts: list[str] = []
        for device in self._paired:
            for profile in device.profiles:
                role = str(profile.role)
                token = found[device.key.device_id].get(role, "")
                if not token:
                    facts.append("revoked")
                    continue
                first = await self._connect(device.key, profile, token)
                again = await self._connect(device.key, profile, token)
                facts.append(f"{_outcome(first)}, then {_outcome(again)}")
        return tuple(dict.fromkeys(facts))

    async def clients_returned(self) -> Facts:
        """Connect the unmodified reference clients with only their stored token, twice."""
        facts: list[str] = []
        for role, device in self._clients:
            before = await device.stored(role.name)
            for _ in range(2):
                client = await device.connect(url=self._latchkey.gateway, **role.token_options())
                hello = await client.hello()
                await client.stop()
                facts.append(f"{hello['auth']['role']} admitted")
            after = await device.stored(role.name)
            facts.append(either(after not in {None, before}, "token replaced", "token kept"))
        return tuple(facts)

    async def exported(self) -> Facts:
        """Export devices that Latchkey paired; OpenClaw lists them and admits them."""
        keys = [(await self._pair_here(role), role) for role in ("operator", "node")]
        written = await move(self._latchkey, "export", self._state, "--yes")
        if "error" in written:
            raise Unexpected(written["error"]["message"])
        again = await move(self._latchkey, "export", self._state, "--yes")
        facts = [
            either(written["added"] >= len(keys), "added", f"added {written['added']}"),
            either(bool(written["copy"]), "copy kept", "no copy"),
            either(again["added"] == 0, "nothing the second time", f"then {again['added']}"),
        ]
        async with real_gateway(self._protocol, self._home) as gateway:
            listed = {one["deviceId"] for one in (await gateway.devices())["paired"]}
            here = all(key.device_id in listed for key, _ in keys)
            kept = all(one.key.device_id in listed for one in self._paired)
            facts.append(either(here, "listed by OpenClaw", f"listed are {len(listed)}"))
            facts.append(either(kept, "beside its own", "its own are missing"))
            for key, role in keys:
                outcome = await self._connect_to(
                    gateway.ws_url,
                    key,
                    self._profile(role),
                    Credentials(token=TOKEN),
                    origin=gateway.http_url,
                )
                facts.append(f"{role} {_outcome(outcome)} there")
        return tuple(facts)

    async def _joined(self, url: str, role: Role) -> Device:
        """Return a reference client that OpenClaw has paired."""
        device = await self._reference.device()
        client = await device.connect(url=url, **role.options(token=TOKEN))
        await client.hello()
        await client.stop()
        if await device.stored(role.name) is None:
            raise Unexpected(f"OpenClaw gave the {role.name} no device token")
        return device

    async def _pair_here(self, role: str) -> DeviceKey:
        """Pair a new device with Latchkey."""
        key = DeviceKey.generate()
        profile = self._profile(role)
        own = Credentials(token=self._latchkey.gateway_token)
        asked = await self._connect_to(self._latchkey.gateway, key, profile, own)
        if isinstance(asked, Admitted):
            raise Unexpected("a new device was admitted")
        await self._latchkey.approve(asked.request_id)
        return key

    def _profile(self, role: str) -> Profile:
        profile = NODE_HOST if role == "node" else CLI.with_scopes("operator.read")
        return for_protocol(profile, self._protocol)

    async def _connect(self, key: DeviceKey, profile: Profile, token: str) -> Outcome:
        given = Credentials(device_token=token)
        return await self._connect_to(self._latchkey.gateway, key, profile, given)

    @staticmethod
    async def _connect_to(
        url: str, key: DeviceKey, profile: Profile, given: Credentials, origin: str | None = None
    ) -> Outcome:
        async with DeviceClient(url, key, profile, credentials=given, origin=origin) as client:
            return await client.connect()


def _counts(plan: dict[str, Any]) -> Facts:
    if "error" in plan:
        raise Unexpected(plan["error"]["message"])
    return tuple(f"{count} {name}" for name, count in plan["counts"].items() if count)


def _outcome(outcome: Outcome) -> str:
    if isinstance(outcome, Admitted):
        return "admitted"
    return "refused" if outcome.detail_code == _MISMATCH else str(outcome.detail_code)


def _tokens_in(state: Path) -> dict[str, dict[str, str]]:
    """Return the tokens that OpenClaw has stored, by device and role."""
    found = read_records(locate(state), with_tokens=True)
    return {
        one.device_id: {token.role: token.token for token in one.tokens if token.token}
        for one in found.devices
    }
