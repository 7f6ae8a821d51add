"""These tests run on uvloop, as the gateway does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import uvloop

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run every test in this folder on the gateway's event loop type."""
    return {"uvloop": uvloop.new_event_loop}
