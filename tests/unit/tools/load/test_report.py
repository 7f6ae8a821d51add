from __future__ import annotations

import json
import re
from html import unescape
from html.parser import HTMLParser

import pytest

from tests.unit.tools.load.runs import ADMITTED, GROUND, churned, held, soaked
from tools.load.messages import Ended
from tools.load.page import as_page
from tools.load.plan import Phase, Plan, Scenario
from tools.load.remains import Remainder
from tools.load.report import Report, make_report
from tools.load.text import as_text
from tools.load.verdicts import Kind, Outcome

STRANGE = Outcome(Kind.FAILED, "HTTP 503 <b>Too many</b>")
CLOSED = Plan(scenario=Scenario.CLOSED)


def churn_report() -> Report:
    run = churned(*[ADMITTED] * 4, STRANGE, latencies=[1000, 2000, 3000, 9000])
    return make_report(CLOSED, GROUND, run)


class TestNumbers:
    def test_of_a_phase(self) -> None:
        phase = churn_report().phases[0]
        assert (phase.seconds, phase.per_second) == (2, 2)
        latency = phase.latency_ms
        assert (latency.count, latency.p50, latency.max, latency.mean) == (4, 2, 9, 3.75)
        assert [(row.kind, row.what, row.count) for row in phase.outcomes] == [
            ("admitted", "", 4),
            ("failed", STRANGE.what, 1),
        ]

    def test_of_its_servers(self) -> None:
        (use,) = churn_report().phases[0].servers
        assert (use.role, use.busy, use.cpu_us_each) == ("gateway", 0.5, 250_000)
        assert use.rss_bytes == 52 << 20

    def test_of_connections_held(self) -> None:
        plan, run = held(Scenario.IDLE, 10)
        report = make_report(plan, GROUND, run)
        assert report.phases[1].servers[0].bytes_per_connection == pytest.approx((3 << 20) / 10)

    def test_of_a_storm(self) -> None:
        plan, run = held(Scenario.STORM, 100)
        run.dropped = 101.0
        run.recording.back = [101.0 + n / 100 for n in range(1, 101)]
        moments = make_report(plan, GROUND, run).moments
        assert moments.back50 == pytest.approx(500)
        assert moments.back99 == pytest.approx(990)
        assert moments.back100 == pytest.approx(1000)

    def test_of_a_storm_from_which_some_did_not_come_back(self) -> None:
        plan, run = held(Scenario.STORM, 100)
        run.dropped = 101.0
        run.recording.back = [101.0 + n / 100 for n in range(1, 61)]
        moments = make_report(plan, GROUND, run).moments
        assert moments.back50 == pytest.approx(500)
        assert (moments.back99, moments.back100) == (None, None)

    def test_of_a_revocation(self) -> None:
        ended = [Ended(n, n % 2, 101.5 + n / 10, 4001, "device removed") for n in range(4)]
        plan, run = held(Scenario.REVOKE, 4, ended)
        run.calls = {0: 101.0, 1: 101.4}
        moments = make_report(plan, GROUND, run).moments
        assert moments.first_closed == pytest.approx(500)
        assert moments.last_closed == pytest.approx(800)
        assert moments.last_closed_after_its_call == pytest.approx(700)
        assert [(row.close_code, row.count) for row in moments.closes] == [(4001, 4)]


class TestForms:
    def test_json_holds_all_and_no_secret(self) -> None:
        text = churn_report().as_json()
        said = json.loads(text)
        assert said["phases"][0]["latencyMs"]["hdr"].startswith("HISTF")
        assert said["findings"] == []
        assert "secret" not in text

    def test_text_names_outcomes_and_findings(self) -> None:
        run = churned(ADMITTED, Outcome(Kind.WRONGLY_ADMITTED))
        text = as_text(make_report(CLOSED, GROUND, run))
        assert "WRONG   1 admissions of unapproved devices" in text
        assert "fine" not in text

    def test_the_page_is_whole_and_needs_nothing_else(self) -> None:
        page = as_page(churn_report())
        assert not re.search(r"""(?:src|href)=|url\(|@import|<script""", page)
        assert "HTTP 503 &lt;b&gt;Too many&lt;/b&gt;" in page
        assert page.count("<svg") == page.count("</svg>") > 3
        assert "prefers-color-scheme:dark" in page
        Balance().close_of(page)

    def test_the_page_says_the_plan_in_words_and_holds_no_dump(self) -> None:
        phases = (
            Phase("warm-up", 1.0, 64, counted=False),
            Phase("open", 2.5, 4096, rate=1000.0, is_open=True),
        )
        plan = Plan(scenario=Scenario.OPEN, phases=phases, shared_token=True)
        run = churned(ADMITTED)
        page = as_page(make_report(plan, GROUND, run))
        foot = page[page.index("<footer>") :]
        for name, value in (
            ("in flight", "64"),
            ("timeout", "10 s"),
            ("token", "the gateway&#x27;s own"),
            ("warm-up", "1 s"),
            ("open", "2.5 s at 1,000 a second"),
        ):
            assert f"<dt>{name}</dt><dd>{value}</dd>" in foot
        text = unescape(re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL))
        assert not re.search(r"[{}\[\]]|\bNone\b|\bTrue\b|\bFalse\b|[a-z]_[a-z]", text)

    def test_each_cell_of_a_narrow_page_has_its_columns_head(self) -> None:
        page = as_page(churn_report())
        cells = re.findall(r"<td[^>]*>", page)
        assert cells
        assert all('data-label="' in cell for cell in cells)
        assert page.count('<div class="narrow"><svg') == page.count('<div class="wide"><svg') > 3

    @pytest.mark.parametrize("scenario", [Scenario.IDLE, Scenario.STORM, Scenario.REVOKE])
    def test_pages_of_what_was_held(self, scenario: Scenario) -> None:
        plan, run = held(scenario, 10)
        Balance().close_of(as_page(make_report(plan, GROUND, run)))

    def test_a_run_without_a_verdict_has_a_page(self) -> None:
        report = make_report(CLOSED, GROUND, churned(STRANGE))
        Balance().close_of(as_page(report))
        assert "nothing was measured" in as_text(report)

    def test_of_a_soak_each_says_what_is_left_over(self) -> None:
        plan, run = soaked(megabytes=(40, 50, 50, 50, 50, 52))
        run.remains.append(Remainder("approval", "tasks", 6, 9, left=3))
        report = make_report(plan, GROUND, run)
        text, page = as_text(report), as_page(report)
        assert "left over: 0 descriptors, 3 tasks" in text
        assert "<strong>0</strong><span>descriptors left over</span>" in page
        assert "<strong>3</strong><span>tasks left over</span>" in page
        for shown in (text, page):
            assert "52 MB (+2.0 MB, +4.0 % since it settled)" in shown
        said = json.loads(report.as_json())
        (use,) = said["phases"][0]["servers"]
        assert (use["rssGrowthBytes"], use["rssGrowthPercent"]) == (2 << 20, 4)
        assert said["leftOver"][-1] == {
            "role": "approval",
            "what": "tasks",
            "before": 6,
            "after": 9,
            "left": 3,
        }

    def test_what_nobody_could_see_is_not_shown(self) -> None:
        plan, run = soaked()
        run.remains = [Remainder("gateway", "tasks", 7, 7, left=0)]
        assert "left over: 0 tasks\n" in as_text(make_report(plan, GROUND, run))
        report = churn_report()
        assert "left over" not in as_text(report) + as_page(report)


class Balance(HTMLParser):
    """Fails if an element is not closed, or closed out of order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def close_of(self, page: str) -> None:
        self.feed(page)
        self.close()
        assert self.open == []
