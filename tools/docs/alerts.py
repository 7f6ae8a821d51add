"""Page on alerts: when each fires and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from tools.docs.markdown import code, page, table
from tools.support.yaml_file import load_yaml

_PROMETHEUS: Final = Path(__file__).parents[2] / "deploy/prometheus"


def alerts() -> str:
    """Return the page of alerts. Raises ValueError if rules and runbook differ."""
    groups = load_yaml(_PROMETHEUS / "alerts.yml")["groups"]
    rules: list[dict[str, Any]] = [rule for group in groups for rule in group["rules"]]
    runbook: dict[str, str] = load_yaml(_PROMETHEUS / "runbook.yml")
    if list(runbook) != (names := [rule["alert"] for rule in rules]):
        differing = ", ".join(sorted(set(runbook) ^ set(names))) or "their order"
        raise ValueError(f"alerts.yml and runbook.yml in {_PROMETHEUS.name} differ: {differing}")
    rows = [
        (
            code(rule["alert"]),
            rule["labels"]["severity"],
            code(rule["expr"]),
            runbook[rule["alert"]],
        )
        for rule in rules
    ]
    return page(
        "Alerts",
        "The rules are in `deploy/prometheus/alerts.yml`, the remedies in `runbook.yml` beside it."
        " `critical`: devices are refused, or a guarantee is at risk; `warning`: that may follow.",
        table(("alert", "severity", "fires when", "what to do"), rows),
    )
