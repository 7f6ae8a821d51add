"""Structured logs: for people on a terminal, one JSON object a line otherwise."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
import structlog
from aiohttp.http_exceptions import HttpProcessingError

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger


class LogEvent(NamedTuple):
    """A line that a service writes: its name, and what it tells."""

    name: str
    meaning: str


LIBRARY: Final = LogEvent("library", "What a library we use logged, with its logger's name.")
MALFORMED_HTTP: Final = LogEvent(
    "http.malformed", "What came was no HTTP: answered with 400. With the kind of error only."
)
ALL: Final = (LIBRARY, MALFORMED_HTTP)

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_encode: Final = msgspec.json.Encoder(enc_hook=str).encode


def printable(text: str) -> str:
    """Return a text with everything unprintable (ANSI, newlines, direction marks) escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


def _escape(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    for key, value in event.items():
        if type(value) is str and not value.isprintable() and key != "exception":
            event[key] = printable(value)
    return event


def _render_json(_logger: WrappedLogger, _name: str, event: EventDict) -> bytes:
    first = {name: event.pop(name) for name in ("timestamp", "level", "event")}
    return _encode({**first, **event})


class _ToStructlog(logging.Handler):
    """Takes what libraries log through the standard library."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger("library")
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            # What was sent may hold a secret, so only the kind of error is told.
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
    """Set up logging for this process; every line carries the service and its boot id.

    `log_format`: `console`, `json`, or `auto`: console on a terminal.
    """
    console = log_format == "console" or (log_format == "auto" and sys.stdout.isatty())

    def identify(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
        event["service"] = service
        event["replica"] = boot_id
        return event

    processors: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        identify,
        structlog.processors.format_exc_info,
        _escape,
    ]
    if console:
        processors += [structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())]
        factory: structlog.PrintLoggerFactory | structlog.BytesLoggerFactory = (
            structlog.PrintLoggerFactory()
        )
    else:
        processors += [_render_json]
        factory = structlog.BytesLoggerFactory()
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=factory,
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[_ToStructlog()], level=logging.WARNING, force=True)
