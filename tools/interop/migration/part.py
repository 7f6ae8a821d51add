"""The migration's part: a real OpenClaw of each release, and one Latchkey."""

from __future__ import annotations

from typing import Final

from tools.interop.cases import Case, Row, run_case
from tools.interop.cli.program import package, version_of
from tools.interop.latchkey import running
from tools.interop.migration.scenario import MigrationScenario
from tools.interop.plan import Plan, Report
from tools.interop.reference.client import reference_client

Cases = tuple[Case[MigrationScenario], ...]

_ONCE: Final = ("admitted, then refused", "revoked")
_BACK: Final = (
    "added",
    "copy kept",
    "nothing the second time",
    "listed by OpenClaw",
    "beside its own",
    "operator admitted there",
    "node admitted there",
)
CASES_4: Final[Cases] = (
    Case(
        "export, it runs",
        MigrationScenario.paired,
        ("5 devices", "2 clients", "openclaw-locked"),
    ),
    Case("import --dry-run", MigrationScenario.planned, ("7 added", "nothing changed")),
    Case("import, twice", MigrationScenario.imported, ("7 added", "then", "7 exists")),
    Case("its tokens, twice", MigrationScenario.returned, _ONCE),
    Case(
        "its clients, twice",
        MigrationScenario.clients_returned,
        (
            *("operator admitted", "operator admitted", "token replaced"),
            *("node admitted", "node admitted", "token replaced"),
        ),
    ),
    Case("export", MigrationScenario.exported, _BACK),
)
CASES_3: Final[Cases] = (
    Case("paired", MigrationScenario.paired, ("5 devices", "0 clients", "not tried")),
    Case("import --dry-run", MigrationScenario.planned, ("6 added", "nothing changed")),
    Case("import, twice", MigrationScenario.imported, ("6 added", "then", "6 exists")),
    Case("its tokens, twice", MigrationScenario.returned, _ONCE),
    Case("export", MigrationScenario.exported, _BACK),
)
_RELEASES: Final[tuple[tuple[int, Cases], ...]] = ((4, CASES_4), (3, CASES_3))


async def migration_part(plan: Plan) -> Report:
    """Run every case with both releases. Raises RunFailed or Unexpected."""
    rows: list[Row] = []
    async with (
        running(plan.data / "migration", plan.heard) as latchkey,
        reference_client() as reference,
    ):
        for protocol, cases in _RELEASES:
            version = version_of(package(protocol))
            of_release = [
                Row(
                    "latchkey import, export",
                    version,
                    "of",
                    case.name,
                    case.expected,
                    rounds=plan.rounds,
                )
                for case in cases
            ]
            for number in range(plan.rounds):
                home = plan.data / f"migration-{protocol}-{number}"
                scenario = MigrationScenario(latchkey, reference, protocol, home)
                for row, case in zip(of_release, cases, strict=True):
                    await run_case(row, case, scenario)
            rows += of_release
    return Report(rows)
