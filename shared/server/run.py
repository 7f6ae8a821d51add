"""Runs a service as a process: event loop, signals and exit codes."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from typing import TYPE_CHECKING, Final, TypeVar

import uvloop

from shared.server.sockets import ListenError
from shared.settings.environment import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

EXIT_SETTINGS: Final = 78
"""EX_CONFIG: the environment is invalid, and a restart will not help."""
GARBAGE_THRESHOLDS: Final = (20_000, 20, 50)
"""A connection creates hundreds of short-lived objects; the default of 700 collects too often."""

_Settings = TypeVar("_Settings")


def run_service(
    name: str,
    read_settings: Callable[[Mapping[str, str]], _Settings],
    serve: Callable[[_Settings, asyncio.Event], Coroutine[object, object, None]],
) -> None:
    """Run a service until SIGTERM or SIGINT sets the event passed to `serve`.

    If settings or addresses are invalid, exits with 78 and one message that lists every problem.
    """
    try:
        settings = read_settings(os.environ)
        uvloop.run(_serve(serve, settings))
    except (SettingsError, ListenError) as error:
        sys.stderr.write(f"{name} cannot start:\n{error}\n")
        sys.exit(EXIT_SETTINGS)


async def _serve(
    serve: Callable[[_Settings, asyncio.Event], Coroutine[object, object, None]],
    settings: _Settings,
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    await serve(settings, stop)


def settle_memory() -> None:
    """Freeze existing objects for the garbage collector; call it once everything is set up."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)
