"""Simulates a reconnect storm: all clients are dropped at once and reconnect. Pure, seeded.

A server admits a fixed number of clients per second. Work that would wait longer than the deadline
is refused, at a fraction of the cost of an admission: vain attempts reduce the admissions. A
refused client retries according to its plan.
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
MAX_BACKOFF_SECONDS: Final = 30.0
HINT_SECONDS: Final = (0.5, 5.0)
"""The gateway draws `retryAfterMs` between these."""
DRAIN_SECONDS: Final = 20.0
"""How long a gateway that shuts down spreads the closing of its clients."""
DEADLINE_SECONDS: Final = 2.0
"""A request that would wait longer than this for its decision is refused."""
NETWORK_SECONDS: Final = 0.05
"""How far apart simultaneous actions of clients arrive."""
END_SECONDS: Final = 300.0
RECENT_SECONDS: Final = 5.0
"""Period over which a server counts refusals, if its hints depend on them."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long a client waits, in seconds: before its first attempt, and after refusals.

    `pressure`: how long the server would need for everything it has refused recently.
    """

    name: str
    first: Callable[[random.Random], float]
    after: Callable[[random.Random, int, float], float]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a storm; times in seconds, None if not reached by END_SECONDS."""

    half: float | None
    most: float | None
    """Until 99 % were back."""
    everybody: float | None
    tries_mean: float
    tries_maximum: int
    wasted: float
    """The part of the server's work spent on refusals."""


def backoff(refusals: int) -> float:
    """Return the reference client's delay: 1 s, doubled each time, at most 30 s."""
    return min(BACKOFF_FIRST_SECONDS * 2.0 ** min(refusals, 10), MAX_BACKOFF_SECONDS)


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
    """Drop all clients at once, and admit them at this rate.

    `refusal`: the cost of a refusal, as a fraction of an admission.
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
    """Return when this fraction of the clients was back."""
    place = max(0, round(clients * part) - 1)
    return back[place] if place < len(back) else None
