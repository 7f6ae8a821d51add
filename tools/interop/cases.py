"""Cases and their results."""

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
    """One case: its name in the table, its function, and the expected facts.

    `before` runs once, before the case runs for any client.
    """

    name: str
    tell: Callable[[StoryT], Awaitable[Facts]]
    expected: Facts
    before: Callable[[Latchkey], None] | None = None


@dataclass(slots=True)
class Row:
    """One case for one client, with the facts of each round; `kind` is the type of client.

    `skipped` says what is missing if the case cannot be run here.
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
        """The number of rounds with the expected facts."""
        return sum(facts == self.expected for facts in self.seen)

    def cells(self) -> tuple[str, ...]:
        """Return client, version, kind, case, expected, seen (each deviation) and ok."""
        seen = " / ".join(dict.fromkeys(", ".join(facts) for facts in self.seen))
        return (
            *(self.client, self.version, self.kind, self.name),
            ", ".join(self.expected),
            f"SKIPPED: {self.skipped}" if self.skipped else seen or "not reached",
            "-" if self.skipped else f"{self.right}/{self.rounds}",
        )


async def run_case(row: Row, case: Case[StoryT], scenario: StoryT) -> None:
    """Run a case and record its facts."""
    try:
        facts = await case.tell(scenario)
    except _WRONG as error:
        facts = (f"{type(error).__name__}: {error}",)
    row.seen.append(facts)
