"""An attack or a storm: its name, and what it does to which settings."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tools.drills.attacks.storm_result import StormResult
    from tools.drills.attacks.storms import StormScene

ATTACK_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What an attacker knows, and how much of the full attack it performs."""

    gateway_port: int
    approval_port: int
    gateway_token: str = field(repr=False)
    scale: float = 1.0

    def count(self, whole: int) -> int:
        """Return this part of a number of the full attack, at least 1."""
        return max(1, round(whole * self.scale))


class Newcomers(Enum):
    """Which newcomers must be served during an attack."""

    ALL = "all"
    NOBODY = "nobody"
    """A storm offers more than can be served; it is judged by what it completes."""


Hostile = Callable[[Target], Awaitable[None]]
"""Attacks until it is cancelled. It runs in a process of its own."""
Storm = Callable[["StormScene"], Awaitable["StormResult"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One row of the table: either `do` or `storm` is set."""

    name: str
    do: Hostile | None = None
    storm: Storm | None = None
    gateway_settings: Mapping[str, str] = field(default_factory=dict)
    newcomers: Newcomers = Newcomers.ALL
