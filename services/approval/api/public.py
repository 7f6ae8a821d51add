"""Public pages of the approval service, readable without a token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType


class Description(msgspec.Struct, frozen=True):
    """An OpenAPI description."""

    openapi: str
    info: dict[str, Any]
    paths: dict[str, Any]
    components: dict[str, Any]
    security: list[dict[str, list[str]]]


class Live(msgspec.Struct, frozen=True):
    """The process is running."""

    ok: bool
    status: str


class Dependency(msgspec.Struct, frozen=True):
    """State of a dependency; `reason` explains it whether or not it is ok."""

    ok: bool
    reason: str
    warnings: list[str] | UnsetType = UNSET


class EventLoop(msgspec.Struct, rename="camel", frozen=True):
    """Delay of the event loop in milliseconds."""

    delay_ms: float


class Ready(msgspec.Struct, rename="camel", frozen=True):
    """Readiness of the service; if there is an ops port, details are available only there."""

    ready: bool
    boot_id: str
    failing: list[str] | UnsetType = UNSET
    uptime_ms: int | UnsetType = UNSET
    event_loop: EventLoop | UnsetType = UNSET
    dependencies: dict[str, Dependency] | UnsetType = UNSET


@dataclass(frozen=True, slots=True)
class Page:
    """A public page."""

    id: str
    path: str
    summary: str
    shape: type[msgspec.Struct] | None = None
    """Type of its JSON object; None for plain text."""
    not_ready: bool = False
    """Whether it responds with 503 and the same object if the service is not ready."""


METRICS: Final = Page("metrics", "/metrics", "Metrics for Prometheus")
PAGES: Final = (
    Page("about", "/", "What this service is"),
    Page("openapi", "/openapi.json", "This description", Description),
    Page("livez", "/livez", "Liveness", Live),
    Page("readyz", "/readyz", "Readiness", Ready, not_ready=True),
)
