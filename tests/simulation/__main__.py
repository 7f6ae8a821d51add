"""Run the simulation from the command line: one seed with its story, or as many as asked for.

python -m tests.simulation --seed 17
python -m tests.simulation --runs 100000 --jobs 2
python -m tests.simulation --seed 17 --without "R10"
"""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final

from tests.simulation.faults import WEIGHTS
from tests.simulation.mutants.rules import SOUND, WITHOUT
from tests.simulation.run import simulate, simulate_all

if TYPE_CHECKING:
    from tests.simulation.run import Outcome

CHUNK: Final = 50
MATTERED: Final = {
    "lease": "connections closed because the lease ended (R1, R4, R7)",
    "R2": "beats refused by a demoted master",
    "R3": "questions left unanswered by an approval that is not sure of itself",
    "R5": "changes that did not follow and were not applied",
    "R6": "answers asked for anew because something newer was known",
    "R6 wait": "answers waited with until their change was applied",
    "R8": "connections closed because history was lost",
    "R8 resync": "gateways that started over",
    "R9": "connections closed because their device was touched",
    "R10": "remembered changes of a forgotten history dropped",
    "R11 once": "calls answered with what an earlier try was told",
    "R11 late": "calls refused because they came too late",
    "R12": "calls judged by less than what the gateway reported",
    "R12 version": "calls judged anew by a newer record of the caller",
    "R13": "presence told on another beat than the one that counted",
    "R14": "subscriptions given up for silence",
}
"""Counters that show that a rule had an effect."""


def main() -> int:
    """Run the requested seeds; returns 1 if an invariant was violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this one, and tell its story")
    parser.add_argument("--runs", type=int, default=2_000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--without", choices=WITHOUT, help="leave a rule out")
    given = parser.parse_args()
    if given.seed is not None:
        return _tell(simulate(given.seed, WITHOUT.get(given.without, SOUND), with_story=True))
    return _many(given.runs, given.jobs, given.without)


def _tell(outcome: Outcome) -> int:
    print(outcome.story)
    print(outcome.violation or f"all is well after {outcome.seconds:.1f} s")
    return outcome.violation is not None


def _many(runs: int, jobs: int, without: str | None) -> int:
    first = secrets.randbelow(10**12)
    print(f"{runs} runs from seed {first}", flush=True)
    began = time.monotonic()
    faults: Counter[str] = Counter()
    checked: Counter[str] = Counter()
    mattered: Counter[str] = Counter()
    seconds, failed, done = 0.0, [], 0
    chunks = [range(at, min(at + CHUNK, first + runs)) for at in range(first, first + runs, CHUNK)]
    with ProcessPoolExecutor(jobs) as pool:
        for outcomes in pool.map(partial(_chunk, without=without), chunks):
            for outcome in outcomes:
                done += 1
                seconds += outcome.seconds
                faults += outcome.faults
                checked += outcome.checked
                mattered += outcome.mattered
                if outcome.violation is not None:
                    failed.append(outcome.seed)
                    print(f"seed {outcome.seed}: {outcome.violation}", flush=True)
    took = time.monotonic() - began
    print(f"{done} runs, {seconds / 3600:.1f} h of virtual time, in {took:.0f} s", end=" ")
    print(f"({done / took:.1f} a second)")
    _table("faults", faults, dict.fromkeys(WEIGHTS, ""))
    _table("checks of invariants", checked, dict.fromkeys(sorted(checked), ""))
    _table("rules at work", mattered, MATTERED)
    for seed in islice(failed, 10):
        print(f"replay: python -m tests.simulation --seed {seed}")
    print(f"{len(failed)} runs broke an invariant" if failed else "no invariant was broken")
    return bool(failed)


def _chunk(seeds: range, without: str | None) -> list[Outcome]:
    variant = SOUND if without is None else WITHOUT[without]
    return list(simulate_all(seeds, variant))


def _table(title: str, counts: Counter[str], rows: dict[str, str]) -> None:
    print(f"{title}:")
    for name, meaning in rows.items():
        print(f"  {counts[name]:>9}  {name:<18} {meaning}".rstrip())


if __name__ == "__main__":
    sys.exit(main())
