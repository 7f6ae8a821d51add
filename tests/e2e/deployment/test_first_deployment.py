"""A first deployment, before the platform has assigned public addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tools.support.actors import SimulatedDevice
from tools.support.processes.stack import Stack

if TYPE_CHECKING:
    from pathlib import Path

ADDRESSES = ("GATEWAY_PUBLIC_URL", "APPROVAL_PUBLIC_URL", "GATEWAY_ALLOWED_ORIGINS")


async def test_services_start_warn_and_serve_while_public_addresses_are_empty(
    tmp_path: Path,
) -> None:
    env = dict.fromkeys(ADDRESSES, "https://")
    with Stack(tmp_path, approvals=1, gateways=1, env=env) as stack:
        await SimulatedDevice(stack).request_pairing(stack.gateways[0])
        for service, expected in (
            (stack.gateways[0], set(ADDRESSES)),
            (stack.approvals[0], {"GATEWAY_PUBLIC_URL", "APPROVAL_PUBLIC_URL"}),
        ):
            advice = [line["advice"] for line in service.logs() if "advice" in line]
            assert {text.partition(":")[0] for text in advice} & set(ADDRESSES) == expected
