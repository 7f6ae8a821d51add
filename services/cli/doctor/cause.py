"""What a cause is: one row of the table of causes. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


_COMMAND: Final = "latchkey"


class Cause(NamedTuple):
    """One cause: its name, what a user sees, what that means, and how it is cured."""

    id: str
    seen: str
    meaning: str
    cure: str

    def filled(self, values: Mapping[str, str]) -> tuple[str, str]:
        """Return meaning and cure with these values; what is not known stands as `A-NAME`.

        `latchkey` is how the command is called, by its name unless told otherwise.
        """
        known = _Known(values)
        return self.meaning.format_map(known), self.cure.format_map(known)


class _Known(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return _COMMAND if name == _COMMAND else name.upper().replace("_", "-")
