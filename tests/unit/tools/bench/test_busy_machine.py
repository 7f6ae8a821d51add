"""The benchmark notes below each table when other programs used the machine meanwhile."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from tools.bench import __main__ as bench

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest


class Measured:
    """Replaces the benchmark: two tables without measuring."""

    def __init__(self, _given: object, _stack: object) -> None:
        pass

    def measured(self, name: str) -> Iterator[str]:
        yield f"table of {name}"


class Others:
    """Replaces the measurement of other programs."""

    used = iter(())

    def cores(self) -> float:
        return next(self.used)


def test_a_busy_machine_is_noted_below_the_table_it_affects(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Others, "used", iter([1.5, 0.0]))
    monkeypatch.setattr(bench, "Bench", Measured)
    monkeypatch.setattr(bench, "OtherPrograms", Others)
    monkeypatch.setattr(
        bench, "_arguments", lambda: argparse.Namespace(only=["admissions", "latency"])
    )
    assert bench.main() == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    assert [line.split(":")[0] for line in lines] == [
        "table of admissions",
        "**The machine was too busy",
        "table of latency",
    ]
    assert "other programs used 1.5 of its" in lines[1]
