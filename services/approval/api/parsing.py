"""A call of the API as it comes in: path, query and body are read once, at the door."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import PayloadEncodingError
from msgspec import UNSET

from services.approval.api.operations import PARAMETERS
from services.approval.domain import fields
from services.approval.problems import IDS, MALFORMED, MEDIA, TOO_LARGE, Ids, ProblemError

if TYPE_CHECKING:
    from services.approval.api.operations import EventsQuery, Operation

BODY_LIMIT_BYTES: Final = 65_536
JSON: Final = "application/json"
LAST_EVENT_ID: Final = "Last-Event-ID"


@dataclass(frozen=True, slots=True)
class Call:
    """What a call is about and what it brings, checked; query and body as its operation says."""

    ids: Ids
    query: Any
    body: Any


def resumed_from(request: web.Request, query: EventsQuery) -> int | None:
    """Return the number after which a stream of events is to begin; None: at the present.

    The header wins: a browser that comes back still asks for the address it first had.
    """
    given = request.headers.getall(LAST_EVENT_ID, [])
    if not any(given):
        return None if query.after is UNSET else query.after
    try:
        return msgspec.convert(",".join(given), fields.ChangeNumber, strict=False)
    except msgspec.ValidationError:
        raise ProblemError(MALFORMED, f"{LAST_EVENT_ID}: no number that was given out.") from None


def read_ids(request: web.Request) -> Ids:
    """Read and keep what a call is about, for its problems and its log line; raises Refused."""
    ids = request[IDS] = _ids(request)
    return ids


async def read_call(request: web.Request, operation: Operation) -> Call:
    """Read a call; raises Refused."""
    ids = read_ids(request)
    query = _query(request, operation)
    body = await _body(request, operation) if operation.changes else None
    return Call(ids, query, body)


def _ids(request: web.Request) -> Ids:
    for name, value in request.match_info.items():
        try:
            if "\n" in value:  # Python's $ also matches before one at the end
                raise msgspec.ValidationError("holds a line break")  # noqa: TRY301
            msgspec.convert(value, PARAMETERS[name])
        except msgspec.ValidationError as error:
            raise ProblemError(MALFORMED, f"{name}: {error}") from None
    return msgspec.convert(dict(request.match_info), Ids)


def _query(request: web.Request, operation: Operation) -> msgspec.Struct:
    given = request.query
    twice = next((name for name in given if len(given.getall(name)) > 1), None)
    if twice is not None:
        raise ProblemError(MALFORMED, f"The query parameter {twice} stands more than once.")
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
    """Return a number that is written with a point or an exponent; whole ones are integers."""
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
