"""The report of `make churn ARGS="--html FILE"`, on a phone and on a desktop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.load_runs import ADMITTED, SYSTEM, churned, soaked
from tools.load.client.verdicts import Kind, Outcome
from tools.load.plan import Plan, Scenario
from tools.load.report.page import as_page
from tools.load.report.report import make_report

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.async_api import Browser

LONG = Outcome(Kind.FAILED, "HTTP 503 Too many unauthenticated sockets from this address", 1013)


def churn() -> str:
    run = churned(*[ADMITTED] * 4, LONG, latencies=[1000, 2000, 3000, 9000])
    return as_page(make_report(Plan(scenario=Scenario.CLOSED), SYSTEM, run))


def soak() -> str:
    plan, run = soaked(megabytes=(40, 50, 50, 50, 50, 52))
    return as_page(make_report(plan, SYSTEM, run))


@pytest.mark.parametrize("page", [churn, soak], ids=["churn", "soak"])
@pytest.mark.parametrize("width", [320, 390, 768, 1280])
async def test_nothing_is_wider_than_the_window(
    browser: Browser, tmp_path: Path, width: int, page: object
) -> None:
    assert callable(page)
    file = tmp_path / "report.html"
    file.write_text(page())
    window = await browser.new_page(viewport={"width": width, "height": 844})
    await window.goto(file.as_uri())
    assert await window.evaluate("document.documentElement.scrollWidth") <= width
    cut_off = await window.evaluate(
        "[...document.querySelectorAll('td, th, p, dd, strong, span')]"
        ".filter(one => one.offsetParent && one.getBoundingClientRect().right > innerWidth + 1)"
        ".map(one => one.textContent)"
    )
    assert cut_off == []
    assert await window.locator("svg:visible").count() >= 3
