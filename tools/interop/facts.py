"""Short facts about what a client was told; a case is as expected when its facts are.

Ids and tokens differ each time, so a fact tells how they compare, not what they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

Facts = tuple[str, ...]


class Unexpected(Exception):
    """A client did something else than the story has, or nothing; the message says what."""


def once(facts: Iterable[str]) -> Facts:
    """Return the facts without repetition, in their order."""
    return tuple(dict.fromkeys(facts))


def replica(connection_id: str) -> str:
    """Return the boot id in a connection's id."""
    return connection_id.partition(":")[0]


def where(replicas: set[str]) -> str:
    """Return at how many of the two replicas it was."""
    return "at both gateways" if len(replicas) > 1 else "at one gateway"


def either(told: bool, yes: str, no: str) -> str:  # noqa: FBT001 - reads like the words it picks
    """Return one of two facts."""
    return yes if told else no
