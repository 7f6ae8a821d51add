from __future__ import annotations

import os
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.test_utils import TestServer

from tools.load.client.target import read_target
from tools.load.server.observing import observing
from tools.load.server.processes import Watched
from tools.load.server.subject import SystemUnderTest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

GONE = 2**22 + 1
"""No process has this id."""


@asynccontextmanager
async def exporting(text: str, status: int = 200) -> AsyncIterator[str]:
    """Serve this at /metrics; yields the address without its scheme."""

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(text=text, status=status)

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    async with TestServer(app) as server:
        yield f"127.0.0.1:{server.port}"


async def seen(gateways: list[str], approval: str, *watched: Watched) -> dict[str, int]:
    """Take one sample of these addresses and processes."""
    target, *more = [read_target(f"ws://{gateway}/") for gateway in gateways]
    system = SystemUnderTest(target, f"http://{approval}/", "", "", watched, tuple(more))
    async with observing(system) as look:
        return {" ".join(key): count for key, count in (await look()).items()}


async def test_the_tasks_of_all_gateways_and_of_approval_are_counted() -> None:
    async with (
        exporting("latchkey_gateway_tasks 7.0\n") as address,
        exporting("# HELP latchkey_gateway_tasks X.\nlatchkey_gateway_tasks 8.0\n") as other,
        exporting("latchkey_approval_tasks 5.0\n") as approval,
    ):
        assert await seen([address, other], approval) == {"gateway tasks": 15, "approval tasks": 5}


async def test_a_role_of_which_a_replica_does_not_answer_is_left_out() -> None:
    async with (
        exporting("latchkey_gateway_tasks 7.0\n") as address,
        exporting("latchkey_gateway_tasks 7.0\n", status=404) as ops_port,
        exporting("latchkey_approval_beats_total 5.0\n") as older,
    ):
        assert await seen([address, ops_port], older) == {}
        assert await seen([address], "127.0.0.1:1") == {"gateway tasks": 7}


async def test_the_descriptors_of_a_role_are_counted() -> None:
    here = os.getpid()
    nowhere = "127.0.0.1:1"
    before = await seen([nowhere], nowhere, Watched("redis", here), Watched("approval", GONE))
    assert before.keys() == {"redis descriptors"}
    with socket.socket():
        after = await seen([nowhere], nowhere, Watched("redis", here))
        both = await seen([nowhere], nowhere, Watched("redis", here), Watched("redis", GONE))
    assert after["redis descriptors"] == before["redis descriptors"] + 1
    assert both == {}
