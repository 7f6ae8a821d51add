"""Devices paired with a real OpenClaw gateway, each of another kind."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from shared.device.client import DeviceClient
from shared.device.handshake import Admitted, Credentials, Refused
from shared.device.identity import DeviceKey
from shared.device.profile import CLI, NODE_HOST, REFERENCE
from tools.interop.doctor.gateway import TOKEN
from tools.interop.facts import Unexpected

if TYPE_CHECKING:
    from shared.device.profile import Profile
    from tools.interop.doctor.gateway import RealGateway

LABEL: Final = "Kitchen <b>& co</b>"
_OWN: Final = Credentials(token=TOKEN)
_OLDEST: Final = 3


@dataclass(frozen=True, slots=True)
class PairedDevice:
    """A device, and what it pairs as."""

    name: str
    key: DeviceKey
    profiles: tuple[Profile, ...]


async def pair_devices(gateway: RealGateway) -> list[PairedDevice]:
    """Pair one device of each kind; one more stays pending. Raises Unexpected."""
    few = ("operator.read",)
    reader = await _paired(gateway, "reader", [REFERENCE.with_scopes(*few)])
    admin = await _paired(gateway, "admin", [CLI.with_scopes("operator.admin", *few)])
    node = await _paired(gateway, "node", [NODE_HOST])
    both = await _paired(gateway, "both", [CLI.with_scopes(*few), NODE_HOST])
    revoked = await _paired(gateway, "revoked", [REFERENCE.with_scopes(*few)])
    await _run(gateway, "revoke", "--device", revoked.key.device_id, "--role", "operator")
    if gateway.protocol > _OLDEST:
        await _run(gateway, "rename", "--device", reader.key.device_id, "--name", LABEL)
    await _asked(
        gateway, DeviceKey.generate(), for_protocol(REFERENCE.with_scopes(*few), gateway.protocol)
    )
    return [reader, admin, node, both, revoked]


async def _paired(gateway: RealGateway, name: str, profiles: list[Profile]) -> PairedDevice:
    key = DeviceKey.generate()
    fitting = [for_protocol(one, gateway.protocol) for one in profiles]
    for profile in fitting:
        request_id = await _asked(gateway, key, profile)
        await _run(gateway, "approve", request_id)
        outcome = await _connect(gateway, key, profile)
        if not isinstance(outcome, Admitted):
            raise Unexpected(f"{name} is not admitted: {outcome}")
    return PairedDevice(name, key, tuple(fitting))


async def _asked(gateway: RealGateway, key: DeviceKey, profile: Profile) -> str:
    outcome = await _connect(gateway, key, profile)
    if not isinstance(outcome, Refused) or not outcome.request_id:
        raise Unexpected(f"pairing was not required: {outcome}")
    return outcome.request_id


async def _connect(gateway: RealGateway, key: DeviceKey, profile: Profile) -> Admitted | Refused:
    """Connect like a browser: OpenClaw approves other clients of its own machine by itself."""
    async with DeviceClient(
        gateway.ws_url, key, profile, credentials=_OWN, origin=gateway.http_url
    ) as client:
        return await client.connect()


def for_protocol(profile: Profile, protocol: int) -> Profile:
    """Return a client that speaks this protocol."""
    return replace(profile, min_protocol=protocol, max_protocol=protocol)


async def _run(gateway: RealGateway, *command: str) -> None:
    ran = await gateway.command("devices", *command)
    if ran.status:
        raise Unexpected(f"openclaw devices {command[0]}: {ran.reason()}")
