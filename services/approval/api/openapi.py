"""OpenAPI 3.1 description of the HTTP API, generated from the table and types the code uses."""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import msgspec

from services.approval import problems
from services.approval.access.sessions import COOKIE
from services.approval.api.parameters import PARAMETERS
from services.approval.api.sse import LAST_EVENT_ID
from services.approval.backup.format import MEDIA_TYPE
from shared.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from services.approval.api.operations import Operation
    from services.approval.api.public import Page
    from services.approval.problems import Kind

Json = dict[str, Any]

_ABOUT: Final = (
    "Latchkey's approval service decides which devices are admitted. Every operation with "
    "`security` requires the admin token or an operator's token, or a session cookie obtained with "
    "it, and the permission in `x-permission`. With the cookie, changes also require the headers "
    "Origin and X-Latchkey-Page, as sent by the operators' page. "
    "Every error is a problem (RFC 9457), identified by its `type`."
)
_REF: Final = "#/components/schemas/{name}"
_PARAMETER: Final = re.compile(r"\{(\w+)\}")
_EVENTS: Final = (
    "An endless stream of server-sent events, one per audit entry: `id` is the number of the "
    "change, `event` its action, `data` the object in `x-event-data`. The first `id` is sent "
    "without data, as the position to resume from. The event `reset` means that entries after the "
    "last id are not available, because history was lost or no longer reaches back that far: read "
    "all data again. Its `id` is the position at which the stream continues. Comments keep the "
    "connection alive."
)
_RESUMING: Final[Json] = {
    "name": LAST_EVENT_ID,
    "in": "header",
    "description": "The last id received; the stream continues after it, at any replica.",
    "schema": {"type": "integer", "minimum": 0, "maximum": 2**53 - 1},
}
_HEADERS: Final = {
    401: {"WWW-Authenticate": "Bearer"},
    429: {"Retry-After": "Seconds until the address is no longer locked out"},
    503: {"Retry-After": "Seconds after which to retry"},
}


def describe(operations: Sequence[Operation], pages: Sequence[Page]) -> Json:
    """Return the OpenAPI description of these operations and pages."""
    types = [
        problems.Problem,
        *(one for operation in operations for one in (operation.result, operation.body)),
        *(page.shape for page in pages if page.shape is not None),
    ]
    _, components = msgspec.json.schema_components(types, ref_template=_REF)
    paths: dict[str, Json] = {}
    for page in pages:
        paths[page.path] = {"get": _page(page)}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Latchkey approval", "version": VERSION, "description": _ABOUT},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "adminToken": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A value of APPROVAL_ADMIN_TOKEN, or the token of an operator.",
                },
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": COOKIE,
                    "description": "Set by POST /v1/session, for the operators' page.",
                },
            },
        },
        "security": [{"adminToken": []}, {"session": []}],
    }


def _page(page: Page) -> Json:
    if page.shape is None:
        content = {"content": {"text/plain": {"schema": {"type": "string"}}}}
    else:
        content = {"content": {"application/json": {"schema": _ref(page.shape)}}}
    responses = {"200": {"description": "OK", **content}}
    if page.not_ready:
        responses["503"] = {"description": "Not ready", **content}
    return {
        "operationId": page.id,
        "summary": page.summary,
        "security": [],
        "responses": responses,
    }


def _operation(operation: Operation) -> Json:
    described: Json = {
        "operationId": operation.id,
        "summary": operation.summary,
        "x-permission": operation.permission.label,
        "parameters": [*_path_parameters(operation.path), *_query_parameters(operation.query)],
        "responses": {
            "200": _answer(operation),
            **_problems(operation.problems),
        },
    }
    if operation.token_only:
        described["security"] = [{"adminToken": []}]
    if operation.streams:
        described["parameters"].append(_RESUMING)
    if operation.changes:
        described["requestBody"] = {
            "required": _is_required(operation.body),
            "content": {"application/json": {"schema": _ref(operation.body)}},
        }
    return described


def _answer(operation: Operation) -> Json:
    if operation.streams:
        return _stream(operation.result)
    if operation.lines:
        schema = {"type": "string", "x-line": _ref(operation.result)}
        return {
            "description": operation.result.__doc__,
            "content": {MEDIA_TYPE: {"schema": schema}},
        }
    return _result(operation.result)


def _result(result: type[msgspec.Struct]) -> Json:
    return {
        "description": result.__doc__,
        "content": {"application/json": {"schema": _ref(result)}},
    }


def _stream(result: type[msgspec.Struct]) -> Json:
    schema = {"type": "string", "x-event-data": _ref(result)}
    return {"description": _EVENTS, "content": {"text/event-stream": {"schema": schema}}}


def _path_parameters(path: str) -> list[Json]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": msgspec.json.schema(PARAMETERS[name]),
        }
        for name in _PARAMETER.findall(path)
    ]


def _query_parameters(query: type[msgspec.Struct]) -> list[Json]:
    _, components = msgspec.json.schema_components([query], ref_template=_REF)
    found = []
    for name, schema in components[query.__name__]["properties"].items():
        description = schema.pop("description", "")
        found.append({"name": name, "in": "query", "description": description, "schema": schema})
    return found


def _problems(kinds: Iterable[Kind]) -> dict[str, Json]:
    """Return a response for each status, with the kinds of problems that have it."""
    responses: dict[str, Json] = {}
    ordered = sorted(kinds, key=lambda kind: kind.status)
    for status, of_status in groupby(ordered, key=lambda kind: kind.status):
        described = "; ".join(f"`{kind.name}`: {kind.title}" for kind in of_status)
        responses[str(status)] = {
            "description": described,
            "content": {problems.MEDIA_TYPE: {"schema": _ref(problems.Problem)}},
            **_headers(status),
        }
    return responses


def _headers(status: int) -> Json:
    headers = {
        name: {"description": meaning, "required": True, "schema": {"type": "string"}}
        for name, meaning in _HEADERS.get(status, {}).items()
    }
    return {"headers": headers} if headers else {}


def _is_required(body: type[msgspec.Struct]) -> bool:
    return any(field.required for field in msgspec.structs.fields(body))


def _ref(of: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": _REF.format(name=of.__name__)}
