"""The process that attacks, so that the load does not slow down what is measured."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import uvloop

from tools.load.client.dialer import raise_descriptor_limit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from multiprocessing.context import SpawnProcess
    from multiprocessing.synchronize import Event

    from tools.drills.attacks.attack import Hostile, Target

START_SECONDS: Final = 30.0
END_SECONDS: Final = 5.0


@asynccontextmanager
async def attacking(do: Hostile, target: Target) -> AsyncIterator[SpawnProcess]:
    """Attack until the block ends. The kernel closes the attacker's sockets."""
    context = multiprocessing.get_context("spawn")
    begins = context.Event()
    process = context.Process(target=_main, args=(do, target, begins), daemon=True)
    process.start()
    try:
        assert await asyncio.to_thread(begins.wait, START_SECONDS), "the attacker did not start"
        yield process
    finally:
        process.kill()
        process.join(END_SECONDS)


def _main(do: Hostile, target: Target, begins: Event) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise_descriptor_limit()

    async def attack() -> None:
        begins.set()
        await do(target)

    uvloop.run(attack())
