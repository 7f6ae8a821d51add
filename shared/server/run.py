"""What running a service as a process takes: the loop, the signals, the exit codes."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from typing import TYPE_CHECKING, Final, TypeVar

import uvloop

from shared.server.sockets import ListenError
from shared.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

EXIT_SETTINGS: Final = 78
"""EX_CONFIG: the environment is wrong, and starting again will not help."""
GARBAGE_THRESHOLDS: Final = (20_000, 20, 50)
"""A connection makes hundreds of short-lived objects: the default 700 would collect at each few."""

_Settings = TypeVar("_Settings")


def run_service(
    name: str,
    read_settings: Callable[[Mapping[str, str]], _Settings],
    serve: Callable[[_Settings, asyncio.Event], Coroutine[object, object, None]],
) -> None:
    """Run a service until SIGTERM or SIGINT sets the event it was given.

    Exits with 78 and all that is wrong in one message, when settings or addresses are wrong.
    """
    try:
        settings = read_settings(os.environ)
        uvloop.run(_served(serve, settings))
    except (SettingsError, ListenError) as error:
        sys.stderr.write(f"{name} cannot start:\n{error}\n")
        sys.exit(EXIT_SETTINGS)


async def _served(
    serve: Callable[[_Settings, asyncio.Event], Coroutine[object, object, None]],
    settings: _Settings,
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    await serve(settings, stop)


def settle_memory() -> None:
    """Call once everything is put together: what is there by now is never looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)
