"""Stacks with a stub of OpenClaw as their upstream, and devices connected through them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shared.upstream import header_names
from tests.e2e.relay.devices import new_device
from tests.e2e.relay.upstream import SECRET

if TYPE_CHECKING:
    from shared.device.client import DeviceClient
    from tests.conftest import StartStack
    from tests.e2e.relay.devices import RelayedDevice
    from tools.support.actors import Operator
    from tools.support.processes.stack import Stack
    from tools.support.stub_openclaw import Session, StubOpenClaw

NAMES: Final = header_names(SECRET)


def relayed_stack(
    start_stack: StartStack, url: str, *, gateways: int = 1, certificate: str = ""
) -> Stack:
    """Start gateways with this upstream, which trust the client address in X-Forwarded-For.

    `certificate` is the only one that they trust.
    """
    trusted = {"SSL_CERT_FILE": certificate} if certificate else {}
    return start_stack(
        gateways=gateways,
        env={"TRUSTED_PROXIES": "127.0.0.0/8"},
        gateway_env={"UPSTREAM_URL": url, "UPSTREAM_SECRET": SECRET, **trusted},
    )


async def joined(
    stack: Stack, operator: Operator, upstream: StubOpenClaw, *scopes: str, gateway: int = 0
) -> tuple[RelayedDevice, DeviceClient, Session]:
    """Return an approved, connected device, its client, and its session at the upstream."""
    device = new_device(stack, *scopes)
    (await operator.approve(await device.request_pairing(stack.gateways[gateway]))).ok()
    client, _admitted = await device.connect_when_ready(stack.gateways[gateway])
    session = next(
        item
        for item in reversed(upstream.clients)
        if item.params.get("device", {}).get("id") == device.device_id
    )
    return device, client, session
