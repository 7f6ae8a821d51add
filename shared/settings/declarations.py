"""Declarations of settings: name, meaning, default and bounds. Pure.

Each setting is declared once, where it is read. `make docs` lists the declarations in
docs/reference/settings.md, so the meanings are Markdown without links.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SECRET_MIN_CHARACTERS: Final = 32
PORT_MAX: Final = 65_535


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting with a text as its value; an empty default means that nothing is set."""

    name: str
    meaning: str
    default: str = ""
    required: str = ""
    """Empty, or when the setting is required, such as "required"."""
    secret: bool = False
    """Whether the value is or contains a secret: then it may be in a file (`secret_files.py`)."""

    @property
    def shown_default(self) -> str:
        """The default, as the reference shows it."""
        return self.required or (f"`{self.default}`" if self.default else "none")

    @property
    def values(self) -> str:
        """The accepted values, as the reference shows them; empty if the meaning says it."""
        return ""


@dataclass(frozen=True, slots=True)
class Number:
    """A setting with a number from `least` to `most` as its value."""

    name: str
    meaning: str
    default: float
    least: float
    most: float

    @property
    def shown_default(self) -> str:
        """The default, as the reference shows it."""
        return f"`{plain(self.default)}`"

    @property
    def values(self) -> str:
        """The accepted values, as the reference shows them."""
        return f"{plain(self.least)} to {plain(self.most)}"


@dataclass(frozen=True, slots=True)
class Choice:
    """A setting with one of a few words as its value."""

    name: str
    meaning: str
    default: str
    allowed: tuple[str, ...]

    @property
    def shown_default(self) -> str:
        """The default, as the reference shows it."""
        return f"`{self.default}`"

    @property
    def values(self) -> str:
        """The accepted values, as the reference shows them."""
        return ", ".join(f"`{value}`" for value in self.allowed)


@dataclass(frozen=True, slots=True)
class Secret:
    """A setting with a comma list of secrets: the first is used, all are accepted."""

    name: str
    meaning: str
    least: int = SECRET_MIN_CHARACTERS
    advised: int | None = None
    required: str = "required"

    @property
    def shown_default(self) -> str:
        """When the setting is required."""
        return self.required

    @property
    def values(self) -> str:
        """The minimum length, as the reference shows it."""
        advice = f", {self.advised} recommended" if self.advised else ""
        return f"{self.least} characters or more{advice}"


AnySetting = Setting | Number | Choice | Secret


def plain(number: float) -> str:
    """Return a number in decimal digits, without a fraction if it has none."""
    return str(int(number)) if number == int(number) else str(number)
