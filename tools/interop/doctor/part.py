"""The doctor's part: two real OpenClaw gateways of each release, each with its own state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tools.interop.cases import Row, run_case
from tools.interop.cli.program import package, version_of
from tools.interop.doctor.cases import CASES_3, CASES_4, Cases
from tools.interop.doctor.gateway import real_gateway
from tools.interop.doctor.scenario import DoctorScenario
from tools.interop.plan import Plan, Report

if TYPE_CHECKING:
    from pathlib import Path

_RELEASES: Final[tuple[tuple[int, Cases], ...]] = ((4, CASES_4), (3, CASES_3))


async def doctor_part(plan: Plan) -> Report:
    """Run every case with both releases. Raises Unexpected."""
    rows: list[Row] = []
    for protocol, cases in _RELEASES:
        version = version_of(package(protocol))
        of_release = [
            Row("latchkey doctor", version, "at", case.name, case.expected, rounds=plan.rounds)
            for case in cases
        ]
        for number in range(plan.rounds):
            directory = plan.data / f"doctor-{protocol}-{number}"
            await _run_cases(protocol, directory, of_release, cases)
        rows += of_release
    return Report(rows)


async def _run_cases(protocol: int, directory: Path, rows: list[Row], cases: Cases) -> None:
    async with (
        real_gateway(protocol, directory / "first") as first,
        real_gateway(protocol, directory / "second") as second,
    ):
        scenario = DoctorScenario((first, second), directory)
        for row, case in zip(rows, cases, strict=True):
            await run_case(row, case, scenario)
