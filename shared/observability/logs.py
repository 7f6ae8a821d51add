"""Structured logs: for people on a terminal, otherwise one JSON object per line."""

from __future__ import annotations

import atexit
import logging
import sys
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog
from aiohttp.http_exceptions import HttpProcessingError

from shared.observability.json_lines import Lines, make_json_logger, printable

if TYPE_CHECKING:
    from structlog.typing import EventDict, WrappedLogger


class LogEvent(NamedTuple):
    """A log event of a service: its name and meaning."""

    name: str
    meaning: str


LIBRARY: Final = LogEvent(
    "library",
    "A message from a library, with the name of its logger.",
)
MALFORMED_HTTP: Final = LogEvent(
    "http.malformed",
    "Malformed or unsupported HTTP, answered with 400, 414, 431, 501 or 505. Only the kind of"
    " error is logged.",
)
UNTRUSTED_PROXY: Final = LogEvent(
    "proxy.untrusted",
    "A peer outside `TRUSTED_PROXIES` sends forwarding headers, which are ignored. If it is your"
    " proxy, add it. Once per peer.",
)
UNREADABLE_PROXY: Final = LogEvent(
    "proxy.unreadable",
    "A trusted proxy sent a `header` without a valid address; `value` is its end. All clients of"
    " this proxy share its limits and lock-outs. Once per peer.",
)
ALL: Final = (LIBRARY, MALFORMED_HTTP, UNTRUSTED_PROXY, UNREADABLE_PROXY)

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def _escape(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    for key, value in event.items():
        if type(value) is str and not value.isprintable() and key != "exception":
            event[key] = printable(value)
    return event


class _ToStructlog(logging.Handler):
    """Forwards records of the standard library's logging to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger("library")
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            # The request may contain a secret, so only the type of error is logged.
            log.info(MALFORMED_HTTP.name, error=type(error).__name__, message=record.getMessage())
            return
        log.log(
            record.levelno,
            LIBRARY.name,
            logger=record.name,
            message=record.getMessage(),
            exc_info=record.exc_info or None,
        )


def configure_logs(*, service: str, boot_id: str, level: str, log_format: str) -> None:
    """Set up logging for this process; every line names the service and its boot id.

    `log_format`: `console`, `json`, or `auto` (console on a terminal).
    """
    if log_format == "console" or (log_format == "auto" and sys.stdout.isatty()):
        _configure_console(service, boot_id, _LEVELS[level])
    else:
        lines = Lines(sys.stdout.fileno())
        atexit.register(lines.flush)
        structlog.configure(
            processors=[],
            wrapper_class=make_json_logger(service, boot_id, _LEVELS[level]),
            logger_factory=lines,
            cache_logger_on_first_use=True,
        )
    logging.basicConfig(handlers=[_ToStructlog()], level=logging.WARNING, force=True)


def _configure_console(service: str, boot_id: str, level: int) -> None:
    def identify(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
        event["service"] = service
        event["replica"] = boot_id
        return event

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            identify,
            structlog.processors.format_exc_info,
            _escape,
            structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(),
        cache_logger_on_first_use=True,
    )
