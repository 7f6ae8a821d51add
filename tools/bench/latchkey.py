"""Latchkey as a subject: a stack with paired devices on one core."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from tools.bench.measuring import paired
from tools.bench.subjects import latchkey, pin
from tools.support.processes.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tools.bench.subjects import Subject

DEVICES: Final = 256
ONE_FOR_MANY: Final = {"GATEWAY_CONNECTION_LIMIT_PER_DEVICE": "1000000"}
"""Settings of a gateway where one device stands for many."""


@contextmanager
def latchkey_stack(
    directory: Path,
    *,
    gateways: int,
    log_level: str,
    cores: Sequence[int],
    approvals: int = 1,
) -> Iterator[Subject]:
    """Start a stack with this many gateways and approvals, and pair its devices."""
    with Stack(
        directory,
        gateways=gateways,
        approvals=approvals,
        env={"LOG_LEVEL": log_level},
        gateway_env=ONE_FOR_MANY,
    ) as stack:
        subject = latchkey(stack, paired(latchkey(stack, ()), DEVICES))
        pin(subject, *cores)
        yield subject
