from __future__ import annotations

import json
import re

import pytest

from tests.support.load_runs import ADMITTED, SYSTEM, churned, held, soaked
from tools.load.client.verdicts import Kind, Outcome
from tools.load.plan import Plan, Scenario
from tools.load.report.page import as_page
from tools.load.report.report import Report, make_report
from tools.load.report.text import as_text
from tools.load.server.leftovers import Leftover
from tools.load.workers.messages import Ended

STRANGE = Outcome(Kind.FAILED, "HTTP 503 <b>Too many</b>")
CLOSED = Plan(scenario=Scenario.CLOSED)


def churn_report() -> Report:
    run = churned(*[ADMITTED] * 4, STRANGE, latencies=[1000, 2000, 3000, 9000])
    return make_report(CLOSED, SYSTEM, run)


class TestNumbers:
    def test_a_phase_has_its_rate_latency_and_outcomes(self) -> None:
        phase = churn_report().phases[0]
        assert (phase.seconds, phase.per_second) == (2, 2)
        latency = phase.latency_ms
        assert (latency.count, latency.p50, latency.max, latency.mean) == (4, 2, 9, 3.75)
        assert [(row.kind, row.what, row.count) for row in phase.outcomes] == [
            ("admitted", "", 4),
            ("failed", STRANGE.what, 1),
        ]

    def test_an_open_loop_says_how_late_its_own_starts_were(self) -> None:
        run = churned(ADMITTED)
        run.recording.phases[0].tally.delays.record([100] * 98 + [3000, 20_000])
        report = make_report(Plan(scenario=Scenario.OPEN), SYSTEM, run)
        delay = report.phases[0].start_delay_ms
        assert delay is not None
        assert (delay.p50, delay.max) == (0.1, 20)
        assert delay.p99 == pytest.approx(3, rel=0.001)
        assert "starts    late by p50 0.10, p99 3.00, max 20.0 ms" in as_text(report)
        assert churn_report().phases[0].start_delay_ms is None
        assert "starts    late" not in as_text(churn_report())

    def test_a_server_has_its_cpu_and_memory(self) -> None:
        (use,) = churn_report().phases[0].servers
        assert (use.role, use.busy, use.cpu_us_each) == ("gateway", 0.5, 250_000)
        assert use.rss_bytes == 52 << 20

    def test_memory_is_divided_by_the_connections_held(self) -> None:
        plan, run = held(Scenario.IDLE, 10)
        report = make_report(plan, SYSTEM, run)
        assert report.phases[1].servers[0].bytes_per_connection == pytest.approx((3 << 20) / 10)

    def test_a_storm_ends_when_the_last_is_back(self) -> None:
        plan, run = held(Scenario.STORM, 100)
        run.dropped = 101.0
        run.recording.back = [101.0 + n / 100 for n in range(1, 101)]
        moments = make_report(plan, SYSTEM, run).moments
        assert moments.back50 == pytest.approx(500)
        assert moments.back99 == pytest.approx(990)
        assert moments.back100 == pytest.approx(1000)

    def test_a_storm_from_which_some_did_not_return_has_no_end(self) -> None:
        plan, run = held(Scenario.STORM, 100)
        run.dropped = 101.0
        run.recording.back = [101.0 + n / 100 for n in range(1, 61)]
        moments = make_report(plan, SYSTEM, run).moments
        assert moments.back50 == pytest.approx(500)
        assert (moments.back99, moments.back100) == (None, None)

    def test_a_revocation_is_measured_from_its_call(self) -> None:
        ended = [Ended(n, n % 2, 101.5 + n / 10, 4001, "device removed") for n in range(4)]
        plan, run = held(Scenario.REVOKE, 4, ended)
        run.calls = {0: 101.0, 1: 101.4}
        moments = make_report(plan, SYSTEM, run).moments
        assert moments.first_closed == pytest.approx(500)
        assert moments.last_closed == pytest.approx(800)
        assert moments.last_closed_after_its_call == pytest.approx(700)
        assert [(row.close_code, row.count) for row in moments.closes] == [(4001, 4)]


class TestWhatIsPublished:
    def test_json_contains_the_histogram_and_no_secret(self) -> None:
        text = churn_report().as_json()
        report = json.loads(text)
        assert report["phases"][0]["latencyMs"]["hdr"].startswith("HISTF")
        assert report["findings"] == []
        assert "secret" not in text

    def test_a_wrong_outcome_is_in_the_text_and_on_the_page(self) -> None:
        report = make_report(CLOSED, SYSTEM, churned(ADMITTED, Outcome(Kind.WRONGLY_ADMITTED)))
        assert "WRONG   1 admissions of unapproved devices" in as_text(report)
        assert "1 admissions of unapproved devices" in as_page(report)

    def test_a_run_without_an_outcome_says_that_nothing_was_measured(self) -> None:
        report = make_report(CLOSED, SYSTEM, churned(STRANGE))
        assert "nothing was measured" in as_text(report)
        assert "nothing was measured" in as_page(report)

    def test_the_page_escapes_what_a_server_said_and_loads_nothing(self) -> None:
        page = as_page(churn_report())
        assert "HTTP 503 &lt;b&gt;Too many&lt;/b&gt;" in page
        assert not re.search(r"""(?:src|href)=|url\(|@import|<script""", page)

    def test_a_soak_says_what_is_left_over(self) -> None:
        plan, run = soaked(megabytes=(40, 50, 50, 50, 50, 52))
        run.remains.append(Leftover("approval", "tasks", 6, 9, left=3))
        report = make_report(plan, SYSTEM, run)
        text, page = as_text(report), as_page(report)
        assert "left over: 0 descriptors, 3 tasks" in text
        assert "<strong>3</strong><span>tasks left over</span>" in page
        for shown in (text, page):
            assert "52 MB (+2.0 MB, +4.0 % since it settled)" in shown
        (use,) = json.loads(report.as_json())["phases"][0]["servers"]
        assert (use["rssGrowthBytes"], use["rssGrowthPercent"]) == (2 << 20, 4)

    def test_what_could_not_be_observed_is_not_reported_as_zero(self) -> None:
        plan, run = soaked()
        run.remains = [Leftover("gateway", "tasks", 7, 7, left=0)]
        assert "left over: 0 tasks\n" in as_text(make_report(plan, SYSTEM, run))
