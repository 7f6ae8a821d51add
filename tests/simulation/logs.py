"""What the services log while they are simulated: nothing but exceptions nobody expected."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulation.world import World


@contextlib.contextmanager
def listening(world: World) -> Iterator[None]:
    """Turn logged exceptions into the end of the run; put the logs back as they were after it."""

    def hear(_logger: Any, _method: str, event: dict[str, Any]) -> Any:
        error = event.get("exc_info")
        if error is not None:
            import traceback  # noqa: PLC0415 (only where a run fails)

            text = "".join(traceback.format_exc())
            world.trouble("a service", f"{event['event']}\n{text}")
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
