"""A browser, and a whole Latchkey with two approvals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser.screens import MISSING, browsing
from tools.support.chromium import find_chromium

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser

    from tests.conftest import StartStack
    from tools.support.processes.stack import Stack

GATEWAY_URL = "wss://gateway.example"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option --pictures."""
    parser.addoption("--pictures", action="store_true", help="write the screenshots to docs/")


def pytest_sessionstart() -> None:
    """Stop with one message if the browser is missing."""
    if find_chromium() is None:
        pytest.exit(MISSING, returncode=1)


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    """Two approvals and two gateways, for the whole module."""
    return start_stack(approvals=2, gateways=2, env={"GATEWAY_PUBLIC_URL": GATEWAY_URL})


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Return a browser for one test."""
    chromium = find_chromium()
    assert chromium is not None
    async with browsing(chromium) as item:
        yield item
