"""Scopes: which scope covers which, and the normalised form stored with tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

ADMIN: Final = "operator.admin"
READ: Final = "operator.read"
WRITE: Final = "operator.write"
PAIRING: Final = "operator.pairing"

_COVERED_BY_WRITE: Final = frozenset({READ, "operator.talk"})


def covers(granted: Collection[str], requested: str, role: str) -> bool:
    """Return whether the granted scopes cover one requested scope, for this role."""
    if role != "operator":
        return requested.startswith(f"{role}.") and requested in granted
    if not requested.startswith("operator."):
        return False
    if requested in granted or ADMIN in granted:
        return True
    return WRITE in granted and (
        requested in _COVERED_BY_WRITE or requested.startswith("operator.sessions.")
    )


def first_uncovered(granted: Collection[str], requested: Iterable[str], role: str) -> str | None:
    """Return the first requested scope that is not covered, or None."""
    for scope in requested:
        if not covers(granted, scope, role):
            return scope
    return None


def covers_all(granted: Collection[str], requested: Iterable[str], role: str) -> bool:
    """Return whether every requested scope is covered; true for an empty request."""
    for scope in requested:  # noqa: SIM110 (each admission asks twice; a generator takes longer)
        if not covers(granted, scope, role):
            return False
    return True


def normalised(scopes: Iterable[str]) -> list[str]:
    """Return scopes as stored with a token: trimmed, with implied scopes, unique and sorted."""
    result = {trimmed for scope in scopes if (trimmed := scope.strip())}
    if ADMIN in result:
        result |= {READ, WRITE}
    if WRITE in result:
        result.add(READ)
    return sorted(result)


def union(*lists: Iterable[str]) -> list[str]:
    """Merge lists in order of first occurrence, without duplicates."""
    return list(dict.fromkeys(item for items in lists for item in items))
