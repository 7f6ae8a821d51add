"""A reconnect storm, simulated: all clients are dropped at once and come back. Pure, seeded.

One server lets in so many a second. Work that waits longer than the deadline is refused at the
door, and a refusal costs a part of an admission: what clients try in vain is taken from what those
get who are let in. A client that is refused comes back by its own plan.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BACKOFF_FIRST_SECONDS: Final = 1.0
BACKOFF_MOST_SECONDS: Final = 30.0
HINT_SECONDS: Final = (0.5, 5.0)
"""Between these the gateway draws `retryAfterMs`."""
DRAIN_SECONDS: Final = 20.0
"""Over so long a gateway that leaves closes its clients."""
DEADLINE_SECONDS: Final = 2.0
"""What would wait longer than this for its verdict is refused."""
NETWORK_SECONDS: Final = 0.05
"""How far apart clients are that do the same at the same moment."""
END_SECONDS: Final = 300.0
RECENT_SECONDS: Final = 5.0
"""Over how long a server counts its refusals, where its hints grow with them."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a client waits, in seconds: before its first try, and after so many refusals.

    `pressure`: how long the server would take for all that it has refused lately.
    """

    name: str
    first: Callable[[random.Random], float]
    after: Callable[[random.Random, int, float], float]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a storm; times in seconds, None where it had not ended by END_SECONDS."""

    half: float | None
    most: float | None
    """Until 99 % were back."""
    everybody: float | None
    tries_mean: float
    tries_most: int
    wasted: float
    """The part of the server's work that let nobody in."""


def backoff(refusals: int) -> float:
    """Return how long the reference client waits: 1 s, doubled each time, 30 s at most."""
    return min(BACKOFF_FIRST_SECONDS * 2.0 ** min(refusals, 10), BACKOFF_MOST_SECONDS)


def _first(_draw: random.Random) -> float:
    return backoff(0)


REFERENCE: Final = Plan(
    "its own back-off (reference client)", _first, lambda _draw, refusals, _: backoff(refusals)
)
HINTED: Final = Plan(
    "the hint of today, 0.5 to 5 s", _first, lambda draw, _, __: draw.uniform(*HINT_SECONDS)
)
GROWING: Final = Plan(
    "a hint that grows with refusals",
    _first,
    lambda draw, _, pressure: draw.uniform(HINT_SECONDS[0], max(HINT_SECONDS[1], 2 * pressure)),
)
SPREAD: Final = Plan(
    "closed over 20 s, own back-off",
    lambda draw: draw.uniform(0, DRAIN_SECONDS) + backoff(0),
    lambda _draw, refusals, _: backoff(refusals),
)
PLANS: Final = (REFERENCE, HINTED, GROWING, SPREAD)


def storm(plan: Plan, *, clients: int, per_second: float, refusal: float, seed: int = 1) -> Outcome:
    """Drop all clients at once, and let them in again at this rate.

    `refusal`: what a refusal costs, as a part of an admission.
    """
    draw = random.Random(seed)
    each = 1.0 / per_second
    coming = [
        (plan.first(draw) + draw.uniform(0, NETWORK_SECONDS), client) for client in range(clients)
    ]
    heapq.heapify(coming)
    refusals = [0] * clients
    recent: deque[float] = deque()
    back: list[float] = []
    work_until = wasted = 0.0
    while coming and coming[0][0] < END_SECONDS:
        now, client = heapq.heappop(coming)
        work_until = max(work_until, now)
        if work_until + each - now <= DEADLINE_SECONDS:
            work_until += each
            back.append(work_until)
            continue
        refusals[client] += 1
        work_until += each * refusal
        wasted += each * refusal
        recent.append(now)
        while recent[0] < now - RECENT_SECONDS:
            recent.popleft()
        wait = plan.after(draw, refusals[client], len(recent) * each)
        again = now + wait + draw.uniform(0, NETWORK_SECONDS)
        heapq.heappush(coming, (again, client))
    return Outcome(
        _when(back, clients, 0.5),
        _when(back, clients, 0.99),
        _when(back, clients, 1.0),
        sum(refusals) / clients + 1,
        max(refusals) + 1,
        wasted / (wasted + len(back) * each),
    )


def _when(back: Sequence[float], clients: int, part: float) -> float | None:
    """Return when this part of the clients was back."""
    place = max(0, round(clients * part) - 1)
    return back[place] if place < len(back) else None
