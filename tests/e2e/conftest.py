"""Fixtures for modules with a stack of their own: callers, and cleanup after each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from services.approval.storage.keys import guard_key, wrong_values_key
from tests.e2e.callers import Callers
from tests.e2e.command.terminal import Terminal
from tools.support.actors import Operator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tools.support.processes.stack import Stack


@pytest.fixture
def restore_stack(stack: Stack) -> Iterator[None]:
    """Restore the stack after the test."""
    yield
    stack.bring_back()


@pytest.fixture
def no_lockouts(stack: Stack) -> None:
    """Forget the previous test's wrong secrets: all devices here share one address."""
    stack.redis.call("DEL", guard_key("127.0.0.1"), wrong_values_key("127.0.0.1"))


@pytest.fixture
def check_health(stack: Stack) -> Iterator[None]:
    """Check after the test that the services are healthy."""
    yield
    for approval in stack.approvals:
        approval.resume()
    for service in stack.services:
        service.wait_ready()
        for line in service.logs():
            assert line["event"] not in {"bus_message_failed", "bus_handler_failed"}, line
            assert line["level"] != "error", line
            assert "exception" not in line, line


@pytest.fixture
async def operator(stack: Stack) -> AsyncIterator[Operator]:
    """Return an operator at the first approval."""
    async with Operator(stack, stack.approvals[0]) as operator:
        yield operator


@pytest.fixture
async def second_operator(stack: Stack) -> AsyncIterator[Operator]:
    """Return an operator at the second approval."""
    async with Operator(stack, stack.approvals[1]) as operator:
        yield operator


@pytest.fixture
async def callers(stack: Stack) -> AsyncIterator[Callers]:
    """Return a factory for callers; all are closed at the end."""
    async with Callers(stack) as callers:
        yield callers


@pytest.fixture
def terminal(stack: Stack) -> Terminal:
    """Return a terminal in which the command `latchkey` reaches the first approval."""
    return Terminal(stack)
