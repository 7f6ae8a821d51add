"""Floods of pipelined requests whose responses are never read."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from tools.drills.attacks.attack import Attack
from tools.support.plain_http_flood import (
    ADDRESSES,
    SOCKETS_PER_ADDRESS,
    Flood,
    flood_plain_http,
    get,
)

if TYPE_CHECKING:
    from tools.drills.attacks.attack import Target


async def pages_of_approval(target: Target) -> None:
    """Request approval's API description."""
    await _flood(target, target.approval_port, "/openapi.json")


async def metrics_of_a_gateway(target: Target) -> None:
    """Request a gateway's metrics."""
    await _flood(target, target.gateway_port, "/metrics")


async def _flood(target: Target, port: int, path: str) -> None:
    flood = Flood(
        get(path),
        addresses=ADDRESSES,
        sockets_per_address=target.count(SOCKETS_PER_ADDRESS),
    )
    await flood_plain_http(port, flood, asyncio.Event())


ATTACKS: Final = (
    Attack(name="approval's /openapi.json never read", do=pages_of_approval),
    Attack(name="a gateway's /metrics never read", do=metrics_of_a_gateway),
)
