"""Parses and validates API calls: path, query and body."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import PayloadEncodingError
from msgspec import UNSET

from services.approval.api.parameters import PARAMETERS
from services.approval.domain import records
from services.approval.problems import IDS, MALFORMED, MEDIA, TOO_LARGE, Ids, ProblemError

if TYPE_CHECKING:
    from services.approval.api.operations import Operation
    from services.approval.api.parameters import EventsQuery

BODY_LIMIT_BYTES: Final = 65_536
JSON: Final = "application/json"
LAST_EVENT_ID: Final = "Last-Event-ID"


@dataclass(frozen=True, slots=True)
class Call:
    """A validated call; `query` and `body` have the types that its operation declares."""

    ids: Ids
    query: Any
    body: Any


def resumed_from(request: web.Request, query: EventsQuery) -> int | None:
    """Return the number after which an event stream starts, or None to start from now.

    The header has precedence, because a browser that reconnects repeats its original URL.
    """
    given = request.headers.getall(LAST_EVENT_ID, [])
    if not any(given):
        return None if query.after is UNSET else query.after
    try:
        return msgspec.convert(",".join(given), records.ChangeNumber, strict=False)
    except msgspec.ValidationError:
        raise ProblemError(MALFORMED, f"{LAST_EVENT_ID}: not an event id.") from None


def read_ids(request: web.Request) -> Ids:
    """Read a call's ids and store them for its problems and log line; raises ProblemError."""
    ids = request[IDS] = _ids(request)
    return ids


async def read_call(request: web.Request, operation: Operation) -> Call:
    """Read and validate a call; raises ProblemError."""
    ids = read_ids(request)
    query = _query(request, operation)
    body = await _body(request, operation) if operation.changes else None
    return Call(ids, query, body)


def _ids(request: web.Request) -> Ids:
    for name, value in request.match_info.items():
        try:
            if "\n" in value:  # Python's $ also matches before a final line break
                raise msgspec.ValidationError("contains a line break")  # noqa: TRY301
            msgspec.convert(value, PARAMETERS[name])
        except msgspec.ValidationError as error:
            raise ProblemError(MALFORMED, f"{name}: {error}") from None
    return msgspec.convert(dict(request.match_info), Ids)


def _query(request: web.Request, operation: Operation) -> msgspec.Struct:
    given = request.query
    twice = next((name for name in given if len(given.getall(name)) > 1), None)
    if twice is not None:
        raise ProblemError(MALFORMED, f"The query parameter {twice} occurs more than once.")
    try:
        return msgspec.convert(dict(given), operation.query, strict=False)
    except msgspec.ValidationError as error:
        raise ProblemError(MALFORMED, f"Query: {error}.") from None


async def _body(request: web.Request, operation: Operation) -> msgspec.Struct:
    text = await _text(request)
    if not text:
        text = b"{}"
    elif request.content_type != JSON:
        raise ProblemError(MEDIA, f"Send {JSON}.", {"Accept": JSON})
    try:
        return msgspec.convert(_decode(text), operation.body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ProblemError(MALFORMED, f"Body: {error}.") from None


def _number(text: str) -> float:
    """Decode a number with a point or an exponent; return whole numbers as integers."""
    number = float(text)
    return int(number) if number.is_integer() else number


_decode: Final = msgspec.json.Decoder(float_hook=_number).decode


async def _text(request: web.Request) -> bytes:
    announced = request.content_length
    text = bytearray()
    try:
        if announced is None or announced <= BODY_LIMIT_BYTES:
            async for chunk in request.content.iter_any():
                text += chunk
                if len(text) > BODY_LIMIT_BYTES:
                    break
            else:
                return bytes(text)
    except (web.RequestPayloadError, PayloadEncodingError):
        raise ProblemError(MALFORMED, "The body cannot be read.") from None
    raise ProblemError(TOO_LARGE, f"At most {BODY_LIMIT_BYTES} bytes.")
