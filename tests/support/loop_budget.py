"""Loop budgets of the running event loop."""

from __future__ import annotations

import asyncio

from shared.server.loop_budget import LoopBudget


def loop_budget() -> LoopBudget:
    """Return a budget that nothing has used."""
    return LoopBudget(lambda run: asyncio.get_running_loop().call_soon(run))
