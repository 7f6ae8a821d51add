"""What anybody may read of the approval service, without a token."""

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
    """The process serves."""

    ok: bool
    status: str


class Dependency(msgspec.Struct, frozen=True):
    """How one dependency does; `reason` says what is seen either way."""

    ok: bool
    reason: str
    warnings: list[str] | UnsetType = UNSET


class EventLoop(msgspec.Struct, rename="camel", frozen=True):
    """How late the event loop runs, in milliseconds."""

    delay_ms: float


class Ready(msgspec.Struct, rename="camel", frozen=True):
    """Whether all is there that the service needs; with an ops port, the reasons are only there."""

    ready: bool
    boot_id: str
    failing: list[str] | UnsetType = UNSET
    uptime_ms: int | UnsetType = UNSET
    event_loop: EventLoop | UnsetType = UNSET
    dependencies: dict[str, Dependency] | UnsetType = UNSET


@dataclass(frozen=True, slots=True)
class Page:
    """Something that anybody may read."""

    id: str
    path: str
    summary: str
    shape: type[msgspec.Struct] | None = None
    """The JSON object it is; None for plain text."""
    not_ready: bool = False
    """Whether it answers 503, with the same object, when the service is not ready."""


METRICS: Final = Page("metrics", "/metrics", "Metrics for Prometheus")
PAGES: Final = (
    Page("about", "/", "What this service is"),
    Page("openapi", "/openapi.json", "This description", Description),
    Page("livez", "/livez", "Say that the process serves", Live),
    Page("readyz", "/readyz", "Say whether all it needs is there", Ready, not_ready=True),
)
