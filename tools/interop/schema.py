"""Validates what clients were sent against the published schema of the protocol.

The schema describes protocol 4. Frames of protocol 3 have the same form, except hello-ok and the
payload of shutdown.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import jsonschema_rs

from tools.interop.cases import Row
from tools.interop.driver import HERE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tools.interop.wiretap import Frame, Heard

PACKAGE: Final = HERE / "node_modules" / "@openclaw" / "gateway-protocol"
PROTOCOL: Final = 4
MISFITS_SHOWN: Final = 3

# The schema's names for the payloads of events.
_EVENTS: Final = {
    "device.pair.requested": "DevicePairRequestedEvent",
    "device.pair.resolved": "DevicePairResolvedEvent",
    "shutdown": "ShutdownEvent",
    "tick": "TickEvent",
}

Piece = tuple[str, object]
"""The name of a definition, and a value that should match it."""


def schema_rows(heard: Iterable[Heard]) -> list[Row]:
    """Return a row for each kind of frame: whether all of them match the schema."""
    schema = Schema(json.loads((PACKAGE / "protocol.schema.json").read_text()))
    version = json.loads((PACKAGE / "package.json").read_text())["version"]
    counts: Counter[str] = Counter()
    misfits: dict[str, list[str]] = {}
    for item in heard:
        kind = _kind(item.frame, item.method)
        counts[kind] += 1
        misfits.setdefault(kind, []).extend(schema.misfits(item))
    return [
        Row("all of them", version, "schema", kind, ("fits",), [_seen(misfits[kind])])
        for kind in sorted(counts)
    ]


def _seen(misfits: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(misfits))[:MISFITS_SHOWN] or ("fits",)


def _kind(frame: Frame, method: str) -> str:
    if frame.get("type") == "event":
        return f"event {frame.get('event')}"
    if method == "connect":
        return "hello-ok" if frame.get("ok") else "refusal"
    return f"answer to {method}" if frame.get("ok") else "error"


class Schema:
    """The published definitions."""

    def __init__(self, document: dict[str, Any]) -> None:
        # OpenClaw 2026.9.6 reports the method of admission in hello-ok, which this schema does not
        # know.
        auth = document["definitions"]["HelloOk"]["properties"]["auth"]
        auth["properties"]["method"] = {"type": "string", "minLength": 1}
        self._document = document
        self._validators: dict[str, Any] = {}

    def misfits(self, heard: Heard) -> Iterator[str]:
        """Yield the mismatches of a frame."""
        for name, value in self._pieces(heard.frame, heard.method):
            for error in self._validator(name).iter_errors(value):
                path = "/".join(str(step) for step in error.instance_path)
                yield f"{name} /{path}: {error.message}"

    def _pieces(self, frame: Frame, method: str) -> Iterator[Piece]:
        payload = frame.get("payload")
        if frame.get("type") == "event":
            yield "EventFrame", frame
            yield from self._of_event(str(frame.get("event")), payload)
            return
        yield "ResponseFrame", frame
        if not frame.get("ok"):
            yield "ErrorShape", frame.get("error")
        elif method == "connect":
            yield from self._of_hello(payload)
        else:
            yield from self._of_answer(method, payload)

    def _of_event(self, name: str, payload: Any) -> Iterator[Piece]:
        if name in _EVENTS and not (name == "shutdown" and "restartExpectedMs" in payload):
            yield _EVENTS[name], payload
        elif name == "presence":
            yield from (("PresenceEntry", entry) for entry in payload["presence"])

    def _of_hello(self, payload: Any) -> Iterator[Piece]:
        if payload["protocol"] == PROTOCOL:
            yield "HelloOk", payload
        else:
            yield "Snapshot", payload["snapshot"]

    def _of_answer(self, method: str, payload: Any) -> Iterator[Piece]:
        if method == "system-presence":
            yield from (("PresenceEntry", entry) for entry in payload)
        elif method == "device.pair.list":
            yield from (("DevicePairRequestedEvent", entry) for entry in payload["pending"])
        elif (name := _result_name(method)) in self._document["definitions"]:
            yield name, payload

    def _validator(self, name: str) -> Any:
        if name not in self._validators:
            self._validators[name] = jsonschema_rs.validator_for(
                {
                    "$schema": self._document["$schema"],
                    "definitions": self._document["definitions"],
                    "$ref": f"#/definitions/{name}",
                }
            )
        return self._validators[name]


def _result_name(method: str) -> str:
    """Return the schema's name for a method's result.

    `device.token.rotate` becomes `DeviceTokenRotateResult`.
    """
    parts = method.replace("-", ".").split(".")
    return "".join(part[:1].upper() + part[1:] for part in parts) + "Result"
