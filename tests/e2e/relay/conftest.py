"""Gateways in front of a stub upstream that serves HTTP and sockets by rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.relay.upstream import OLDER_SECRET, ORIGIN, SECRET
from tests.support.stubs.upstream import stub_upstream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import StartStack
    from tests.support.stubs.upstream import StubUpstream
    from tools.support.processes.service import ServiceProcess
    from tools.support.processes.stack import Stack


@pytest.fixture(scope="module")
def upstream() -> Iterator[StubUpstream]:
    """One upstream."""
    with stub_upstream() as stub:
        yield stub


@pytest.fixture(scope="module")
def stack(start_stack: StartStack, upstream: StubUpstream) -> Stack:
    """Two gateways with the upstream, and one without, at which devices get their tokens."""
    stack = start_stack(
        gateways=2,
        env={"TRUSTED_PROXIES": "127.0.0.0/8"},
        gateway_env={
            "UPSTREAM_URL": upstream.url,
            "UPSTREAM_SECRET": f"{SECRET},{OLDER_SECRET}",
            "GATEWAY_ALLOWED_ORIGINS": ORIGIN,
            "APPROVAL_PUBLIC_URL": "https://approval.example",
        },
    )
    stack.add_gateway(UPSTREAM_URL="")
    return stack


@pytest.fixture
def gateway(stack: Stack) -> ServiceProcess:
    """Return a gateway with the upstream."""
    return stack.gateways[0]
