"""Page on the HTTP API: its calls and the problems with which they fail."""

from __future__ import annotations

from services.approval import problems
from services.approval.api.operations import OPERATIONS
from tools.docs.markdown import code, page, section, table


def http_api() -> str:
    """Return the page of the HTTP API."""
    calls = [
        (code(f"{item.method} {item.path}"), item.summary, code(item.permission.label))
        for item in OPERATIONS
    ]
    kinds = [value for value in vars(problems).values() if isinstance(value, problems.Kind)]
    rows = [(str(kind.status), code(kind.name), kind.title) for kind in kinds]
    return page(
        "The HTTP API",
        "Parameters and results are described at `/openapi.json` of the approval service;"
        " [operations](../operations.md#the-http-api) explains how to use them.",
        section("Calls", table(("call", "does", "permission"), calls)),
        section(
            "Problems",
            f"Errors are `{problems.MEDIA_TYPE}` (RFC 9457). `type` is `{problems.TYPE_PREFIX}`"
            " followed by the name below; `detail` says what to do.",
            table(("status", "name", "title"), rows),
        ),
    )
