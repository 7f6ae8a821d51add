"""A program to start, as `make run` and the stacks of tests describe it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Program:
    """A command, its whole environment, and the file to which its output is appended."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    log: Path
    checks_settings: bool = False
    """Whether it exits at once if its settings are invalid, as the services do."""
