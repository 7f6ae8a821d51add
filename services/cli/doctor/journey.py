"""The state of one run of the doctor: inputs, what is known so far, and findings."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from services.cli.doctor.product import UNKNOWN, Kind
from services.cli.invocation import command_name
from shared.device.identity import DeviceKey
from shared.protocol.connect import DOCTOR_NAME

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import Any

    import aiohttp

    from services.approval.api.public import Ready
    from services.cli.config import Config
    from services.cli.doctor.cause import Cause
    from services.cli.doctor.openclaw.processes import Process
    from services.cli.doctor.product import Product
    from shared.device.opening import Timeouts
    from shared.device.state import DeviceState

NAME: Final = DOCTOR_NAME
"""The display name of the doctor's own connections."""


class State(StrEnum):
    """Outcome of a step."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """Finding of one step, with a cause for problems and warnings."""

    step: str
    state: State
    found: str
    cause: Cause | None = None
    values: dict[str, str] = field(default_factory=dict)

    @property
    def meaning(self) -> str:
        """What it means; empty without a cause."""
        return self.cause.filled(self.values)[0] if self.cause else ""

    @property
    def cure(self) -> str:
        """What to do; empty without a cause."""
        return (
            self.cause.filled(self.values | {"latchkey": command_name()})[1] if self.cause else ""
        )


class Wrong(Exception):
    """A problem that ends the run: what was found, and its cause."""

    def __init__(self, cause: Cause, found: str, **values: str) -> None:
        super().__init__(f"{cause.id}: {found}")
        self.cause = cause
        self.found = found
        self.values = values


@dataclass(frozen=True, slots=True)
class Options:
    """Options of one run; timeouts in seconds."""

    timeouts: Timeouts
    origin: str | None = None
    role: str = "operator"
    scopes: tuple[str, ...] = ("operator.read",)
    state_file: Path | None = None
    connections: int = 8
    pairing_probe: bool = False
    """Whether to request pairing from an OpenClaw gateway, which leaves a request there."""


@dataclass(slots=True)
class Journey:
    """One run. Steps read results of earlier steps and add their own."""

    url: str
    options: Options
    config: Config
    session: aiohttp.ClientSession
    tls: ssl.SSLContext
    tell: Callable[[Finding], None]
    state: DeviceState | None = None
    key: DeviceKey = field(default_factory=DeviceKey.generate)
    now: Callable[[], float] = time.time
    """Seconds since 1970."""
    step: str = ""
    product: Product = UNKNOWN
    """What answers, as far as is known so far."""
    ready: Ready | None = None
    """`/readyz` of a Latchkey gateway, or None."""
    origin_allowed: bool = False
    """Whether pages served by the gateway itself may connect; False if not tried."""
    hello: Mapping[str, Any] | None = field(default=None, repr=False)
    """The first hello-ok."""
    replicas: int = 0
    """How many replicas the connections reached, so far."""
    processes: list[Process] = field(default_factory=list)
    """The OpenClaw processes that answered."""
    findings: list[Finding] = field(default_factory=list)

    @property
    def host(self) -> str:
        """The host of the address."""
        return urlsplit(self.url).hostname or ""

    @property
    def is_latchkey(self) -> bool:
        """Whether a Latchkey gateway answers."""
        return self.product.kind is Kind.LATCHKEY

    @property
    def secure(self) -> bool:
        """Whether the address requires TLS."""
        return urlsplit(self.url).scheme == "wss"

    @property
    def port(self) -> int:
        """The port of the address."""
        return urlsplit(self.url).port or (443 if self.secure else 80)

    @property
    def origin(self) -> str:
        """The origin of a page that the gateway itself serves."""
        return self.http_url("").rstrip("/")

    def http_url(self, path: str) -> str:
        """Return the address of a page at the gateway."""
        scheme = "https" if self.secure else "http"
        return f"{scheme}://{urlsplit(self.url).netloc}{path}"

    def ok(self, found: str) -> None:
        """Record success."""
        self._add(Finding(self.step, State.OK, found))

    def note(self, found: str) -> None:
        """Record a neutral finding."""
        self._add(Finding(self.step, State.NOTE, found))

    def warn(self, cause: Cause, found: str, **values: str) -> None:
        """Record a problem that does not end the run."""
        self._add(Finding(self.step, State.WARNING, found, cause, values))

    def wrong(self, error: Wrong) -> None:
        """Record the problem that ended the run."""
        self._add(Finding(self.step, State.WRONG, error.found, error.cause, error.values))

    def _add(self, finding: Finding) -> None:
        self.findings.append(finding)
        self.tell(finding)
