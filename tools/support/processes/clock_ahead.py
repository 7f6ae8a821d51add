"""Runs a service with a wrong wall clock: `python -m tools.support.processes.clock_ahead SECONDS MODULE`.

The module runs as usual, in a process whose wall clock is ahead by this many seconds.
"""

from __future__ import annotations

import runpy
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deploy.local.programs.supervisor import Program

_NANOSECONDS = 1_000_000_000


def with_clock_ahead(program: Program, seconds: float) -> Program:
    """Return a program `python -m MODULE` with its wall clock set ahead."""
    python, minus_m, *module = program.command
    assert minus_m == "-m", program.command
    return replace(program, command=[python, "-m", __name__, str(seconds), *module])


def main() -> None:
    """Set the clock ahead, then run the module."""
    seconds, module = float(sys.argv[1]), sys.argv[2]
    now, now_ns = time.time, time.time_ns
    time.time = lambda: now() + seconds
    time.time_ns = lambda: now_ns() + int(seconds * _NANOSECONDS)
    del sys.argv[1:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
