"""Settings of the runner itself; all others are passed on to the services.

GATEWAY_PORT    port of both gateways, default 18789; 0 picks a free port
APPROVAL_PORT   port of approval, default 18790; 0 picks a free port
REDIS_URL       an existing Redis to use instead of starting one
UPSTREAM        `openclaw` runs an OpenClaw behind the gateways, with its state in DATA_DIR
DATA_DIR        directory for secrets, logs and Redis's data, default `.data`
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from deploy.local.errors import BadSetting
from deploy.local.places import DEFAULT_DATA_DIR

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_GATEWAY_PORT: Final = 18789
DEFAULT_APPROVAL_PORT: Final = 18790
OPENCLAW: Final = "openclaw"
MAX_PORT: Final = 65_535


@dataclass(frozen=True, slots=True)
class RunSettings:
    """The runner's settings, checked."""

    gateway_port: int
    approval_port: int
    redis_url: str | None
    data_dir: Path
    runs_openclaw: bool = False
    """Whether an OpenClaw runs behind the gateways."""

    @property
    def openclaw_dir(self) -> Path:
        """OpenClaw's configuration and state."""
        return self.data_dir / "openclaw"

    @property
    def secrets_file(self) -> Path:
        """The file with generated secrets."""
        return self.data_dir / "secrets.env"

    @property
    def is_default_data(self) -> bool:
        """Whether tools find this run's files by default."""
        return self.data_dir == DEFAULT_DATA_DIR

    @property
    def logs(self) -> Path:
        """The directory with one log file per program, for this run only."""
        return self.data_dir / "logs"

    @property
    def redis_dir(self) -> Path:
        """Redis's working directory."""
        return self.data_dir / "redis"


def read_settings(environ: Mapping[str, str]) -> RunSettings:
    """Read all settings; empty counts as not set. Raises BadSetting listing all problems."""
    data_dir = environ.get("DATA_DIR", "").strip()
    problems: list[str] = []
    settings = RunSettings(
        gateway_port=_port(environ, "GATEWAY_PORT", DEFAULT_GATEWAY_PORT, problems),
        approval_port=_port(environ, "APPROVAL_PORT", DEFAULT_APPROVAL_PORT, problems),
        redis_url=environ.get("REDIS_URL", "").strip() or None,
        data_dir=Path(data_dir).absolute() if data_dir else DEFAULT_DATA_DIR,
        runs_openclaw=_runs_openclaw(environ, problems),
    )
    if settings.gateway_port == settings.approval_port != 0:
        problems.append(
            f"GATEWAY_PORT and APPROVAL_PORT are both {settings.gateway_port}: choose two ports."
        )
    if problems:
        raise BadSetting(problems)
    return settings


def _runs_openclaw(environ: Mapping[str, str], problems: list[str]) -> bool:
    given = environ.get("UPSTREAM", "").strip()
    if given not in {"", OPENCLAW}:
        problems.append(
            f"UPSTREAM={given}: must be `{OPENCLAW}`, which starts one. To use an OpenClaw that is"
            " already running, set UPSTREAM_URL."
        )
    elif given and environ.get("UPSTREAM_URL", "").strip():
        problems.append(f"UPSTREAM={OPENCLAW} and UPSTREAM_URL: set one of them, not both.")
    return given == OPENCLAW


def _port(environ: Mapping[str, str], name: str, default: int, problems: list[str]) -> int:
    given = environ.get(name, "").strip()
    if not given:
        return default
    if not given.isdecimal() or int(given) > MAX_PORT:
        problems.append(f"{name}={given}: must be a port from 0 to {MAX_PORT}.")
        return default
    return int(given)
