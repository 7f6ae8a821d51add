"""Hooks for schemathesis that fill in requests and devices that exist."""

from __future__ import annotations

import http.client
import itertools
import json
import os
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import schemathesis
from schemathesis.core.parameters import ParameterLocation
from schemathesis.generation import GenerationMode
from schemathesis.generation.meta import TestPhase

if TYPE_CHECKING:
    from schemathesis import Case, HookContext

SEEDS: Final = urlsplit(os.environ["SEEDS_URL"])
"""The server that creates subjects for calls: `POST /<name of the path parameter>`."""
UNKNOWN_EVERY: Final = 4
"""One in this many calls keeps its generated ids."""

RULES: Final = ("/v1/rules", "/v1/rule-trials")
"""Calls whose body has to agree with itself, which a made-up one hardly ever does."""

SEEDED: Final = (
    "requestId",
    "deviceId",
    "lockedAddress",
    "operatorName",
    "ruleName",
    "setupId",
    "webhookName",
)
"""Path parameters that get an existing id."""
_numbers: Final = itertools.count(1)


@schemathesis.hook
def before_call(_context: HookContext, case: Case[Any], _kwargs: dict[str, Any]) -> None:
    """Replace a made-up id with an unused existing one.

    Unused, because calls consume their subject. Deliberately malformed ids stay, and so do
    those from an earlier answer.
    """
    meta = case.meta
    body = meta.components.get(ParameterLocation.BODY) if meta else None
    if case.path in RULES and body is not None and body.mode is GenerationMode.POSITIVE:
        case.body = json.loads(_seed("rule"))
    path = meta.components.get(ParameterLocation.PATH) if meta else None
    if meta is None or path is None or path.mode is not GenerationMode.POSITIVE:
        return
    if meta.phase.name is TestPhase.STATEFUL or next(_numbers) % UNKNOWN_EVERY == 0:
        return
    for name in SEEDED:
        if name in case.path_parameters:
            case.path_parameters[name] = _seed(name)


def _seed(name: str) -> str:
    connection = http.client.HTTPConnection(SEEDS.netloc, timeout=10)
    try:
        connection.request("POST", f"/{name}")
        answer = connection.getresponse()
        text = answer.read().decode()
        if answer.status != http.client.OK:
            raise RuntimeError(text)
        return text
    finally:
        connection.close()
