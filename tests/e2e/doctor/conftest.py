"""A whole Latchkey for the doctor, and the environment of an operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from tests.conftest import StartStack
    from tools.support.processes.stack import Stack

WRONG: Final = "w" * 32
"""No token that the stack knows."""


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    """One approval and two gateways, for the whole module."""
    return start_stack(gateways=2)


@pytest.fixture
def url(stack: Stack) -> str:
    """Return the address of a gateway."""
    return stack.gateways[0].ws_url


@pytest.fixture
def env(stack: Stack) -> dict[str, str]:
    """Return the environment of an operator."""
    return {
        "APPROVAL_URL": stack.approvals[0].url,
        "APPROVAL_ADMIN_TOKEN": stack.admin_token,
        "OPENCLAW_GATEWAY_TOKEN": stack.gateway_token,
    }
