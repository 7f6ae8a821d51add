"""What the doctor knows on its way, and what it has found so far."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from services.cli.doctor.product import UNKNOWN, Kind
from services.cli.invocation import command_name
from shared.device.identity import DeviceKey

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

NAME: Final = "latchkey doctor"
"""The display name of the doctor's own connections."""


class State(StrEnum):
    """How a step went."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one step found; with a cause where something is wrong or will be."""

    step: str
    state: State
    found: str
    cause: Cause | None = None
    values: dict[str, str] = field(default_factory=dict)

    @property
    def meaning(self) -> str:
        """What it means; empty where all is well."""
        return self.cause.filled(self.values)[0] if self.cause else ""

    @property
    def cure(self) -> str:
        """What to do; empty where all is well."""
        return (
            self.cause.filled(self.values | {"latchkey": command_name()})[1] if self.cause else ""
        )


class Wrong(Exception):
    """The way ends here: what was found, and its cause."""

    def __init__(self, cause: Cause, found: str, **values: str) -> None:
        super().__init__(f"{cause.id}: {found}")
        self.cause = cause
        self.found = found
        self.values = values


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the doctor is asked to try, and how long it waits, in seconds."""

    timeouts: Timeouts
    origin: str | None = None
    role: str = "operator"
    scopes: tuple[str, ...] = ("operator.read",)
    state_file: Path | None = None
    connections: int = 8
    pairing_probe: bool = False
    """Whether the doctor may ask an OpenClaw gateway to be paired, which leaves a request there."""


@dataclass(slots=True)
class Journey:
    """One walk. Steps read what earlier ones left here, and add what they find."""

    url: str
    wishes: Wishes
    surroundings: Config
    session: aiohttp.ClientSession
    tls: ssl.SSLContext
    tell: Callable[[Finding], None]
    state: DeviceState | None = None
    key: DeviceKey = field(default_factory=DeviceKey.generate)
    now: Callable[[], float] = time.time
    """Seconds since 1970."""
    step: str = ""
    product: Product = UNKNOWN
    """What answers, as far as is known by now."""
    ready: Ready | None = None
    """What `/readyz` of a Latchkey gateway says; None where it is not to be read."""
    origin_allowed: bool = False
    """Whether pages that the gateway itself serves may connect, as far as it was tried."""
    hello: Mapping[str, Any] | None = field(default=None, repr=False)
    """The first hello-ok."""
    replicas: int = 0
    """How many replicas connections landed on, as far as the doctor got."""
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
        """Whether the address wants TLS."""
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
        """Keep that a step went well."""
        self._add(Finding(self.step, State.OK, found))

    def note(self, found: str) -> None:
        """Keep something that is neither good nor bad."""
        self._add(Finding(self.step, State.NOTE, found))

    def warn(self, cause: Cause, found: str, **values: str) -> None:
        """Keep something that is wrong and ends nothing."""
        self._add(Finding(self.step, State.WARNING, found, cause, values))

    def wrong(self, error: Wrong) -> None:
        """Keep what ended the way."""
        self._add(Finding(self.step, State.WRONG, error.found, error.cause, error.values))

    def _add(self, finding: Finding) -> None:
        self.findings.append(finding)
        self.tell(finding)
