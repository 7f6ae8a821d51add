"""`run.env`: the addresses of this run's services, for tools.

It is written atomically and removed when the run ends. The runner holds a lock on it, which the
system releases however the runner ends, so the file of a killed run can be recognized.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

RUN_FILE: Final = "run.env"
HEADER: Final = "# Written by make run; removed when the run ends.\n"


@contextmanager
def run_file(directory: Path, addresses: Mapping[str, str]) -> Iterator[None]:
    """Keep a file of NAME=value lines in the data directory while this context is open."""
    path = directory / RUN_FILE
    draft = directory / f".{RUN_FILE}.{os.getpid()}"
    with draft.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(HEADER + "".join(f"{name}={value}\n" for name, value in addresses.items()))
        file.flush()
        try:
            draft.replace(path)
        except OSError:
            draft.unlink()
            raise
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                path.unlink()
