"""Pins processes to a core."""

from __future__ import annotations

import os
from pathlib import Path


def pin(pid: int, *cores: int) -> None:
    """Pin a process with all its threads to one core, or to several."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), cores)
