"""Gateways in front of a stub that speaks OpenClaw's protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.relay.devices import CLIENTS
from tests.e2e.relay.openclaw.relayed import NAMES, relayed_stack
from tools.support.stub_openclaw import stub_openclaw

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.conftest import StartStack
    from tools.support.processes.stack import Stack
    from tools.support.stub_openclaw import StubOpenClaw


@pytest.fixture(scope="module")
def upstream() -> Iterator[StubOpenClaw]:
    """One upstream."""
    with stub_openclaw(NAMES.user) as stub:
        yield stub


@pytest.fixture(scope="module")
def stack(start_stack: StartStack, upstream: StubOpenClaw) -> Stack:
    """Two gateways with the upstream."""
    return relayed_stack(start_stack, upstream.url, gateways=2)


@pytest.fixture(autouse=True)
async def _clean(upstream: StubOpenClaw) -> AsyncIterator[None]:
    """Start with an upstream that refuses and limits nobody; close all connections afterwards."""
    upstream.refusal, upstream.silent = None, False
    upstream.reads.set()
    upstream.limited.clear()
    upstream.pending.clear()
    yield
    while CLIENTS:
        await CLIENTS.pop().close()
