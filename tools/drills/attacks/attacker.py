"""The process that attacks, so that the load does not slow down what is measured."""

from __future__ import annotations

import multiprocessing
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import uvloop

from tools.load.client.dialer import raise_descriptor_limit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.context import SpawnProcess

    from tools.drills.attacks.attack import Hostile, Target

END_SECONDS: Final = 5.0


@contextmanager
def attacking(do: Hostile, target: Target) -> Iterator[SpawnProcess]:
    """Attack until the block ends. The kernel closes the attacker's sockets."""
    process = multiprocessing.get_context("spawn").Process(
        target=_main, args=(do, target), daemon=True
    )
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join(END_SECONDS)


def _main(do: Hostile, target: Target) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise_descriptor_limit()

    async def attack() -> None:
        await do(target)

    uvloop.run(attack())
