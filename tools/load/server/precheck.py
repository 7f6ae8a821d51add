"""Checks before anything is created: approval is reachable and belongs to this gateway."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from tools.load.server.approval import ApprovalError

if TYPE_CHECKING:
    from tools.load.client.target import Target
    from tools.load.server.approval import Approval

READYZ_SECONDS: Final = 5.0
HEARD_SECONDS: Final = 5.0
"""A gateway that has just started is in approval's list after its first heartbeats."""
AGAIN_SECONDS: Final = 0.5


async def require_approval_of(target: Target, approval: Approval) -> None:
    """Return if approval is the one behind the gateway. Raises ApprovalError.

    If `/readyz` of the gateway is not reachable, this is unknown: then the first device that
    requests access shows it.
    """
    known = await approval.gateways()
    boot_id = await boot_id_of(target)
    deadline = time.monotonic() + HEARD_SECONDS
    while boot_id and boot_id not in known:
        if time.monotonic() > deadline:
            raise ApprovalError(
                f"approval at {approval.url} is not the one behind {target.url}: it does not "
                f"list that gateway ({boot_id}). Give the right one with --approval-url"
            )
        await asyncio.sleep(AGAIN_SECONDS)
        known = await approval.gateways()


async def boot_id_of(target: Target) -> str:
    """Return the boot id in the gateway's `/readyz`; empty if there is none."""
    url = f"{target.http_url}{target.path.partition('?')[0].rstrip('/')}/readyz"
    timeout = aiohttp.ClientTimeout(total=READYZ_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as http,
            http.get(url, allow_redirects=False) as answer,
        ):
            body: Any = await answer.json(content_type=None)
            return str(body["bootId"])
    except (aiohttp.ClientError, TimeoutError, ValueError, LookupError, TypeError):
        return ""
