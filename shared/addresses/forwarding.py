"""Parses X-Forwarded-For, X-Real-IP and Forwarded. Pure.

Which peers to trust is decided in `shared.addresses.client`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_PORT: Final = re.compile(r":[0-9]{1,5}|:_[A-Za-z0-9._-]+")
"""A port, or an obfuscated one (RFC 7239 §6.3)."""
_PAIR: Final = re.compile(
    r"""([!#$%&'*+.^_`|~0-9A-Za-z-]+)=("(?:[^"\\]|\\.)*"|[^\s",;=]+)""", re.DOTALL
)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_BLANK: Final = " \t"


def host_of(node: str) -> str:
    """Return the host of a hop without port, brackets and quotes; empty if malformed.

    `203.0.113.6:43462`, `[2001:db8::5]:443`, `"[2001:db8::5]"` and `2001:db8::5` are all in use.
    The result need not be an address: it may be `unknown` or `_hidden`.
    """
    node = node.strip(_BLANK)
    if len(node) > 1 and node[0] == node[-1] == '"':
        node = node[1:-1]
    if node.startswith("["):
        host, closed, port = node[1:].partition("]")
        return host if closed and (not port or _PORT.fullmatch(port)) else ""
    if node.count(":") == 1:
        host, _, port = node.partition(":")
        return host if _PORT.fullmatch(f":{port}") else ""
    return node


def from_the_right(lines: Sequence[str]) -> Iterator[str]:
    """Iterate over the elements of a list in one or several header lines, last first."""
    for line in reversed(lines):
        for element in reversed(line.split(",")):
            if element := element.strip(_BLANK):
                yield element


def forwarded_from_the_right(lines: Sequence[str]) -> Iterator[Mapping[str, str] | None]:
    """Iterate over the elements of Forwarded (RFC 7239), last first, as parameters by name.

    Names are in lower case. At a malformed line it yields None and stops, because the part added by
    a trusted proxy cannot be determined.
    """
    for line in reversed(lines):
        elements = _elements(line)
        if elements is None:
            yield None
            return
        yield from reversed(elements)


def _elements(line: str) -> list[Mapping[str, str]] | None:
    found: list[Mapping[str, str]] = []
    element: dict[str, str] = {}
    at, expects_pair = 0, True
    while at < len(line):
        mark = line[at]
        if mark in _BLANK:
            at += 1
        elif mark in ",;":
            if mark == "," and element:
                found.append(element)
                element = {}
            at, expects_pair = at + 1, True
        else:
            pair = _PAIR.match(line, at) if expects_pair else None
            if pair is None or pair[1].lower() in element:
                return None
            element[pair[1].lower()] = _unquote(pair[2])
            at, expects_pair = pair.end(), False
    if element:
        found.append(element)
    return found


def _unquote(value: str) -> str:
    return _ESCAPED.sub(r"\1", value[1:-1]) if value.startswith('"') else value
