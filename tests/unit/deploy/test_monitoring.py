"""Alerts and dashboards use existing metrics, and each alert says what to do."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from services.approval.metrics import Metrics as ApprovalMetrics
from services.gateway.metrics import Metrics as GatewayMetrics
from tools.support.yaml_file import load_yaml

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

ROOT = Path(__file__).parents[3]
ALERTS: list[dict[str, Any]] = [
    rule
    for group in load_yaml(ROOT / "deploy/prometheus/alerts.yml")["groups"]
    for rule in group["rules"]
]
ALERT_TESTS: list[dict[str, Any]] = load_yaml(ROOT / "deploy/prometheus/alerts_test.yml")["tests"]
NUMBER = r"-?\d+(\.\d+)?"
SERIES_VALUE = re.compile(rf"_|stale|{NUMBER}([+-]{NUMBER})?(x\d+)?|NaN([+-]{NUMBER}x\d+)?")
"""A value in promtool's notation; promtool does not read `NaNx3` as one."""
DASHBOARD = json.loads((ROOT / "deploy/grafana/latchkey.json").read_text())
SCRAPES = load_yaml(ROOT / "deploy/prometheus/prometheus.yml")
COMPOSE = load_yaml(ROOT / "docker-compose.yml")["services"]
RUNBOOK = load_yaml(ROOT / "deploy/prometheus/runbook.yml")
ASKED = [
    *(pytest.param(rule["expr"], id=rule["alert"]) for rule in ALERTS),
    *(
        pytest.param(target["expr"], id=panel["title"])
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
    ),
]


def series_of(registry: CollectorRegistry) -> dict[str, set[str]]:
    """Return the names and labels in a scrape."""
    found: dict[str, set[str]] = {}
    for collector in registry._collector_to_names:
        labels = set(getattr(collector, "_labelnames", ()))
        for metric in collector.collect():
            kinds = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_count"]}
            for suffix in kinds[metric.type]:
                found[metric.name + suffix] = labels | ({"le"} if suffix == "_bucket" else set())
    return found


SERIES = series_of(GatewayMetrics().registry) | series_of(ApprovalMetrics().registry)


@pytest.mark.parametrize("expression", ASKED)
def test_every_metric_and_label_exists(expression: str) -> None:
    assert set(re.findall(r"latchkey_\w+", expression)) <= set(SERIES)
    for name, matchers in re.findall(r"(latchkey_\w+)\{([^}]*)\}", expression):
        assert set(re.findall(r"(\w+)=", matchers)) <= SERIES[name]
    jobs = set(re.findall(r'job="([^"]+)"', expression))
    assert jobs <= {scrape["job_name"] for scrape in SCRAPES["scrape_configs"]}
    grouped = {
        label.strip() for by in re.findall(r"by \(([^)]+)\)", expression) for label in by.split(",")
    }
    labels = {label for name in re.findall(r"latchkey_\w+", expression) for label in SERIES[name]}
    assert grouped <= labels | {"instance"}


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    assert list(RUNBOOK) == [rule["alert"] for rule in ALERTS]
    assert all(remedy.endswith(".") for remedy in RUNBOOK.values())
    for rule in ALERTS:
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"]["summary"].endswith(".")


@pytest.mark.parametrize("alert", [rule["alert"] for rule in ALERTS])
def test_every_alert_is_tested_to_fire_and_to_stay_silent(alert: str) -> None:
    rows = [
        (rule_test, {series["series"].partition("{")[0] for series in one["input_series"]})
        for one in ALERT_TESTS
        for rule_test in one["alert_rule_test"]
        if rule_test["alertname"] == alert
    ]
    assert {bool(row.get("exp_alerts")) for row, _ in rows} == {True, False}
    (expression,) = (rule["expr"] for rule in ALERTS if rule["alert"] == alert)
    metrics = set(re.findall(r"latchkey_\w+", expression)) or {"up"}
    assert all(metrics & given for _, given in rows), "a row without data proves nothing"


def test_alert_tests_name_only_existing_alerts_and_series() -> None:
    tested = {row["alertname"] for one in ALERT_TESTS for row in one["alert_rule_test"]}
    assert tested == {rule["alert"] for rule in ALERTS}
    series = [series for one in ALERT_TESTS for series in one["input_series"]]
    assert {one["series"].partition("{")[0] for one in series} - {"up"} <= set(SERIES)
    values = [value for one in series for value in one["values"].split()]
    assert [value for value in values if not SERIES_VALUE.fullmatch(value)] == []


def test_everything_that_is_counted_is_shown() -> None:
    shown = {
        re.sub(r"_bucket$", "", name)
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
        for name in re.findall(r"latchkey_\w+", target["expr"])
    }
    counted = {re.sub(r"_(bucket|count)$", "", name) for name in SERIES}
    assert shown == counted


def test_every_panel_has_its_position() -> None:
    places = [tuple(panel["gridPos"][key] for key in "xywh") for panel in DASHBOARD["panels"]]
    cells = [
        (x + right, y + down) for x, y, w, h in places for right in range(w) for down in range(h)
    ]
    assert len(cells) == len(set(cells))
    assert all(x < 24 for x, _ in cells)


def test_the_replicas_of_compose_are_scraped_at_their_ports() -> None:
    scraped = {
        name: config["port"]
        for scrape in SCRAPES["scrape_configs"]
        for config in scrape["dns_sd_configs"]
        for name in config["names"]
    }
    assert scraped == {
        name: int(service["environment"]["OPS_PORT"])
        for name, service in COMPOSE.items()
        if "OPS_PORT" in service.get("environment", {})
    }
