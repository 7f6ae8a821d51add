"""Short facts about a client's results, compared with those expected of a case.

Ids and tokens differ each time, so facts contain the results of comparisons instead of values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

Facts = tuple[str, ...]


class Unexpected(Exception):
    """A client did something unexpected, or nothing; the message says what."""


def once(facts: Iterable[str]) -> Facts:
    """Return the facts without duplicates, in order."""
    return tuple(dict.fromkeys(facts))


def replica(connection_id: str) -> str:
    """Return the boot id in a connection id."""
    return connection_id.partition(":")[0]


def where(replicas: set[str]) -> str:
    """Return how many of the two replicas were reached."""
    return "at both gateways" if len(replicas) > 1 else "at one gateway"


def either(expected: bool, yes: str, no: str) -> str:  # noqa: FBT001 - reads like the words it picks
    """Return one of two facts."""
    return yes if expected else no
