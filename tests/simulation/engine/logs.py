"""Logs of the simulated services: only unexpected exceptions are recorded."""

from __future__ import annotations

import contextlib
import logging
import sys
import traceback
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping

    from tests.simulation.engine.world import World


@contextlib.contextmanager
def listening(world: World) -> Iterator[None]:
    """End the run at a logged exception; restore the logging configuration afterwards."""

    def hear(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
        given = event.get("exc_info")
        error = given if isinstance(given, BaseException) else sys.exc_info()[1]
        # A handler that takes longer than it may, on a slow line, is logged and left alone.
        if given is not None and not isinstance(error, TimeoutError):
            world.trouble("a service", f"{event['event']}\n{_traceback(error)}")
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(
        processors=[hear],
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**before)


def _traceback(error: BaseException | None) -> str:
    return "".join(traceback.format_exception(error)) if error is not None else "no exception"
