"""The dashboard's part: both versions, each served by its own gateways."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from tools.interop.cases import Row, run_case
from tools.interop.cli.program import package, version_of
from tools.interop.latchkey import running
from tools.interop.plan import Plan, Report
from tools.interop.ui.browser import browsing
from tools.interop.ui.cases import DASHBOARD_3, DASHBOARD_4, Cases
from tools.interop.ui.scenario import UiScenario
from tools.support.chromium import find_chromium

if TYPE_CHECKING:
    from tools.interop.latchkey import Latchkey
    from tools.interop.ui.browser import Browser

NO_CHROMIUM: Final = (
    "the dashboard, for there is no Chromium on PATH: apt install chromium, or set CHROMIUM"
)


async def ui_part(plan: Plan) -> Report:
    """Run every case with both versions if there is a browser. Raises RunFailed or Unexpected."""
    chromium = find_chromium()
    rows_4, rows_3 = _rows(4, DASHBOARD_4, plan.rounds), _rows(3, DASHBOARD_3, plan.rounds)
    rows = [*rows_4, *rows_3]
    if chromium is None:
        for row in rows:
            row.skipped = NO_CHROMIUM
        return Report(rows)
    async with (
        running(plan.data / "dashboard-4", plan.heard, _served(4)) as latchkey_4,
        running(plan.data / "dashboard-3", plan.heard, _served(3)) as latchkey_3,
        browsing(chromium) as browser,
    ):
        if plan.picture is not None:
            async with AsyncExitStack() as ending:
                await UiScenario(latchkey_4, browser, ending).picture(plan.picture)
        for _ in range(plan.rounds):
            await _run_cases(latchkey_4, browser, DASHBOARD_4, rows_4)
            await _run_cases(latchkey_3, browser, DASHBOARD_3, rows_3)
    return Report(rows, [browser.name])


async def _run_cases(latchkey: Latchkey, browser: Browser, cases: Cases, rows: list[Row]) -> None:
    async with AsyncExitStack() as ending:
        scenario = UiScenario(latchkey, browser, ending)
        for row, case in zip(rows, cases, strict=True):
            await run_case(row, case, scenario)


def _rows(protocol: int, cases: Cases, rounds: int) -> list[Row]:
    version = version_of(package(protocol))
    return [
        Row("Control UI", version, "browser", case.name, case.expected, rounds=rounds)
        for case in cases
    ]


def _served(protocol: int) -> dict[str, str]:
    return {"CONTROL_UI_DIR": str(package(protocol) / "dist" / "control-ui")}
