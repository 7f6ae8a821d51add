"""Fixtures for modules with a stack of their own: callers, and cleanup after each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from services.approval.storage.keys import guard_key, wrong_values_key
from tests.e2e.callers import Callers
from tools.support.people import Operator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tools.support.stack import Stack


@pytest.fixture
def mended(house: Stack) -> Iterator[None]:
    """Bring everything back, whatever the test did to it."""
    yield
    house.bring_back()


@pytest.fixture
def unlocked(house: Stack) -> None:
    """Forget the wrong secrets of the test before: all devices here have one address."""
    house.redis.call("DEL", guard_key("127.0.0.1"), wrong_values_key("127.0.0.1"))


@pytest.fixture
def unharmed(house: Stack) -> Iterator[None]:
    """Look, after the test, whether the services took any harm."""
    yield
    for approval in house.approvals:
        approval.resume()
    for service in house.services:
        service.wait_ready()
        for line in service.logs():
            assert line["event"] not in {"bus_message_failed", "bus_handler_failed"}, line
            assert line["level"] != "error", line
            assert "exception" not in line, line


@pytest.fixture
async def first(house: Stack) -> AsyncIterator[Operator]:
    """Return an operator at the first approval."""
    async with Operator(house, house.approvals[0]) as operator:
        yield operator


@pytest.fixture
async def second(house: Stack) -> AsyncIterator[Operator]:
    """Return an operator at the second approval."""
    async with Operator(house, house.approvals[1]) as operator:
        yield operator


@pytest.fixture
async def callers(house: Stack) -> AsyncIterator[Callers]:
    """Let callers into the house; all leave at the end."""
    async with Callers(house) as callers:
        yield callers
