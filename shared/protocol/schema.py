"""Validates frames and reports problems in the words of OpenClaw's validator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from shared.protocol.connect import CLIENT_IDS, CLIENT_MODES
from shared.protocol.limits import (
    LIST_LIMIT_ITEMS,
    SCOPE_LIMIT_CHARACTERS,
    SCOPES_LIMIT_ITEMS,
    TEXT_LIMIT_CHARACTERS,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_decode: Final = msgspec.json.Decoder().decode
_NAME_SHOWN_CHARACTERS: Final = 64
"""Maximum length of a client's unknown property name in an error message."""


def parse(text: bytes) -> Any:
    """Parse JSON; raises ValueError for invalid JSON, invalid UTF-8 or too deep nesting."""
    try:
        if not text.isascii():
            text.decode()
        return _decode(text)
    except RecursionError:
        message = "nested too deep"
        raise ValueError(message) from None


class Check(Protocol):
    """A validation rule for one value."""

    def problems(self, value: object, at: str) -> Iterator[str]:
        """Yield the problems of the value at this JSON pointer."""
        ...


def _where(at: str) -> str:
    return f"at {at}: " if at else ""


@dataclass(frozen=True, slots=True)
class Text:
    """A string with limits on its length in characters."""

    least: int = 1
    most: int | None = TEXT_LIMIT_CHARACTERS
    allowed: tuple[str, ...] = ()

    def problems(self, value: object, at: str) -> Iterator[str]:
        """Yield the problems of the value at this JSON pointer."""
        if not isinstance(value, str):
            yield f"{_where(at)}must be string"
        elif self.allowed:
            if value not in self.allowed:
                yield f"{_where(at)}must be equal to one of the allowed values"
        elif len(value) < self.least:
            yield f"{_where(at)}must not have fewer than {self.least} characters"
        elif self.most is not None and len(value) > self.most:
            yield f"{_where(at)}must not have more than {self.most} characters"


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number, also written as 4.0."""

    least: int

    def problems(self, value: object, at: str) -> Iterator[str]:
        """Yield the problems of the value at this JSON pointer."""
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        if isinstance(value, bool) or not whole:
            yield f"{_where(at)}must be integer"
        elif value < self.least:  # type: ignore[operator]  # a number, as just checked
            yield f"{_where(at)}must be >= {self.least}"


@dataclass(frozen=True, slots=True)
class Flag:
    """A boolean."""

    def problems(self, value: object, at: str) -> Iterator[str]:
        """Yield the problems of the value at this JSON pointer."""
        if not isinstance(value, bool):
            yield f"{_where(at)}must be boolean"


@dataclass(frozen=True, slots=True)
class Constant:
    """One permitted value."""

    value: object

    def problems(self, value: object, at: str) -> Iterator[str]:
        """Yield the problems of the value at this JSON pointer."""
        if value is not self.value:
            yield f"{_where(at)}must be equal to constant"


@dataclass(frozen=True, slots=True)
class Items:
    """An array of limited length."""

    of: Check
    most: int = LIST_LIMIT_ITEMS

    def problems(self, value: object, at: str) -> Iterator[str]:
        """Yield the problems of the value at this JSON pointer."""
        if not isinstance(value, list):
            yield f"{_where(at)}must be array"
        elif len(value) > self.most:
            yield f"{_where(at)}must not have more than {self.most} items"
        else:
            for index, item in enumerate(value):
                yield from self.of.problems(item, f"{at}/{index}")


@dataclass(frozen=True, slots=True)
class Values:
    """An object of limited size with arbitrary names."""

    of: Check

    def problems(self, value: object, at: str) -> Iterator[str]:
        """Yield the problems of the value at this JSON pointer."""
        if not isinstance(value, dict):
            yield f"{_where(at)}must be object"
        elif len(value) > LIST_LIMIT_ITEMS:
            yield f"{_where(at)}must not have more than {LIST_LIMIT_ITEMS} properties"
        else:
            for name, item in value.items():
                yield from self.of.problems(item, f"{at}/{name[:_NAME_SHOWN_CHARACTERS]}")


@dataclass(frozen=True, slots=True)
class Object:
    """An object with known properties; unknown ones are allowed.

    Missing required properties are reported first, in this order, then problems of each value.
    """

    required: Mapping[str, Check]
    optional: Mapping[str, Check]
    closed: bool = False

    def problems(self, value: object, at: str) -> Iterator[str]:
        """Yield the problems of the value at this JSON pointer."""
        if not isinstance(value, dict):
            yield f"{_where(at)}must be object"
            return
        for name in self.required:
            if name not in value:
                yield f"{_where(at)}must have required property '{name}'"
        if self.closed:
            for name in value:
                if name not in self.required and name not in self.optional:
                    shown = name[:_NAME_SHOWN_CHARACTERS]
                    yield f"{_where(at) or 'at root: '}unexpected property '{shown}'"
        for name, check in (*self.required.items(), *self.optional.items()):
            if name in value:
                yield from check.problems(value[name], f"{at}/{name}")


_ANY_LENGTH: Final = Text(most=None)
_MAY_BE_EMPTY: Final = Text(least=0, most=None)

CONNECT_PARAMS: Final = Object(
    required={
        "minProtocol": Integer(1),
        "maxProtocol": Integer(1),
        "client": Object(
            required={
                "id": Text(allowed=CLIENT_IDS),
                "version": Text(),
                "platform": Text(),
                "mode": Text(allowed=CLIENT_MODES),
            },
            optional={
                "displayName": _ANY_LENGTH,
                "deviceFamily": Text(),
                "modelIdentifier": Text(),
                "instanceId": Text(),
                "buildId": Text(most=96),
                "timeZone": Text(most=64),
            },
        ),
    },
    optional={
        "role": _ANY_LENGTH,
        "scopes": Items(Text(most=SCOPE_LIMIT_CHARACTERS), most=SCOPES_LIMIT_ITEMS),
        "device": Object(
            required={
                "id": _ANY_LENGTH,
                "publicKey": _ANY_LENGTH,
                "signature": _ANY_LENGTH,
                "signedAt": Integer(0),
                "nonce": _ANY_LENGTH,
            },
            optional={},
        ),
        "auth": Object(
            required={},
            optional={
                "token": _MAY_BE_EMPTY,
                "deviceToken": _MAY_BE_EMPTY,
                "bootstrapToken": _MAY_BE_EMPTY,
                "password": _MAY_BE_EMPTY,
                "approvalRuntimeToken": _MAY_BE_EMPTY,
                "agentRuntimeIdentityToken": _MAY_BE_EMPTY,
            },
        ),
        "caps": Items(Text()),
        "commands": Items(Text()),
        "permissions": Values(Flag()),
        "pathEnv": _MAY_BE_EMPTY,
        "locale": _MAY_BE_EMPTY,
        "userAgent": _MAY_BE_EMPTY,
    },
)

_REQUEST: Final = Object(
    required={"type": Text(allowed=("req",)), "id": _ANY_LENGTH, "method": _ANY_LENGTH},
    optional={
        "traceparent": Text(least=0, most=128),
        "expectedProfileId": Text(most=128),
    },
)


def request_problem(frame: object) -> str | None:
    """Return the first problem of a parsed frame as a request, or None."""
    return next(_REQUEST.problems(frame, ""), None)


def params_problems(params: object, check: Check) -> list[str]:
    """Return all problems of a request's params, in the order of the schema."""
    return list(check.problems(params, ""))
