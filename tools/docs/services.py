"""Pages on what both services declare: settings, metrics and log events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.approval import log_events as approval_events
from services.approval import settings as approval
from services.approval.metrics import Metrics as ApprovalMetrics
from services.gateway import log_events as gateway_events
from services.gateway import settings as gateway
from services.gateway.metrics import Metrics as GatewayMetrics
from shared.bus import log_events as bus_events
from shared.observability import logs
from shared.redis import log_events as redis_events
from shared.settings import environment as common
from tools.docs.markdown import code, page, section, table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import CollectorRegistry

    from shared.observability.logs import LogEvent
    from shared.settings.declarations import AnySetting


def settings() -> str:
    """Return the page of settings."""
    return page(
        "Settings",
        "Settings are environment variables, checked at start; one message lists all problems."
        " [Operations](../operations.md#settings) explains how they work together.",
        section("Both services", _settings(common.COMMON)),
        section("Gateway", _settings(gateway.OWN)),
        section("Approval", _settings(approval.OWN)),
    )


def _settings(declared: Iterable[AnySetting]) -> str:
    rows = [(code(item.name), item.shown_default, item.values, item.meaning) for item in declared]
    return table(("setting", "default", "values", "meaning"), rows)


def metrics() -> str:
    """Return the page of metrics."""
    return page(
        "Metrics",
        "Each replica serves these at `/metrics`, on `OPS_PORT` if that is set."
        " [Alerts](alerts.md) are based on them.",
        section("Gateway", _metrics(GatewayMetrics().registry)),
        section("Approval", _metrics(ApprovalMetrics().registry)),
    )


def _metrics(registry: CollectorRegistry) -> str:
    rows = []
    for collector in registry._collector_to_names:
        labels = ", ".join(code(label) for label in getattr(collector, "_labelnames", ()))
        for metric in collector.collect():
            name = f"{metric.name}_total" if metric.type == "counter" else metric.name
            rows.append((code(name), metric.type, labels, metric.documentation))
    return table(("metric", "type", "labels", "meaning"), rows)


def log_events() -> str:
    """Return the page of log events."""
    return page(
        "Log events",
        "The field `event` of a log line has one of these names. Other names, such as"
        " `bus_handler_failed`, report an internal error, with its traceback.",
        section("Gateway", _events(gateway_events.ALL)),
        section("Approval", _events(approval_events.ALL)),
        section("Both services", _events((*logs.ALL, *bus_events.ALL, *redis_events.ALL))),
    )


def _events(declared: Iterable[LogEvent]) -> str:
    return table(("event", "meaning"), [(code(item.name), item.meaning) for item in declared])
