"""One row of the table of causes. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


_COMMAND: Final = "latchkey"


class Cause(NamedTuple):
    """A cause of a failed connection: its id, symptoms, meaning and remedy."""

    id: str
    seen: str
    meaning: str
    cure: str

    def filled(self, values: Mapping[str, str]) -> tuple[str, str]:
        """Return meaning and cure with these values; a missing one is shown as `A-NAME`.

        `latchkey` is the name the command was called by, by default "latchkey".
        """
        known = _Known(values)
        return self.meaning.format_map(known), self.cure.format_map(known)


class _Known(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return _COMMAND if name == _COMMAND else name.upper().replace("_", "-")
