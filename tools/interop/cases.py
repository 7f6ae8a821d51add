"""Cases, and what was seen of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import aiohttp

from shared.device.errors import DeviceClientError
from tools.interop.facts import Facts, Unexpected

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tools.interop.latchkey import Latchkey

StoryT = TypeVar("StoryT")

_WRONG: Final = (
    Unexpected,
    DeviceClientError,
    aiohttp.ClientError,
    LookupError,
    TimeoutError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True, slots=True)
class Case(Generic[StoryT]):
    """One case: its name in the table, how it is told, the facts that shall be seen.

    `before` is done once, before it is told of anybody.
    """

    name: str
    tell: Callable[[StoryT], Awaitable[Facts]]
    expected: Facts
    before: Callable[[Latchkey], None] | None = None


@dataclass(slots=True)
class Row:
    """One case of one client, and what was seen in each round; `kind` is what the client comes as.

    `skipped` says what is missing where the case cannot be told here.
    """

    client: str
    version: str
    kind: str
    name: str
    expected: Facts
    seen: list[Facts] = field(default_factory=list)
    rounds: int = 1
    skipped: str = ""

    @property
    def right(self) -> int:
        """The number of rounds that were as expected."""
        return sum(facts == self.expected for facts in self.seen)

    def cells(self) -> tuple[str, ...]:
        """Return client, version, kind, case, expected, seen (each that differs) and ok."""
        seen = " / ".join(dict.fromkeys(", ".join(facts) for facts in self.seen))
        return (
            *(self.client, self.version, self.kind, self.name),
            ", ".join(self.expected),
            f"SKIPPED: {self.skipped}" if self.skipped else seen or "not come to",
            "-" if self.skipped else f"{self.right}/{self.rounds}",
        )


async def tell(row: Row, case: Case[StoryT], story: StoryT) -> None:
    """Tell a case and write down what was seen."""
    try:
        facts = await case.tell(story)
    except _WRONG as error:
        facts = (f"{type(error).__name__}: {error}",)
    row.seen.append(facts)
