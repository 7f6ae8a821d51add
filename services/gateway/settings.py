"""The gateway's settings, read from environment variables."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from services.gateway.handshake.origin import allowed_origins as read_allowed_origins
from services.gateway.handshake.origin import origin_problem
from shared.settings import CommonSettings, Secrets, SettingsReader, origin_of, read_common, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_PORT: Final = 18789
LEASE_MIN_BEATS: Final = 3
GATEWAY_TOKEN_MIN_CHARACTERS: Final = 16
GATEWAY_TOKEN_ADVISED_CHARACTERS: Final = 32


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where the upstream is, and the secret that its header names are derived from."""

    url: str
    secrets: Secrets


@dataclass(frozen=True, slots=True)
class Settings:
    """The gateway's validated settings."""

    common: CommonSettings
    gateway_tokens: Secrets
    allowed_origins: frozenset[str]
    trusts_local: bool
    public_url: str
    control_ui_dir: Path | None
    preauth_limit_per_address: int
    connection_limit: int
    beat_seconds: float
    lease_seconds: float
    drain_seconds: float
    upstream: Upstream | None
    """The OpenClaw gateway behind this one; None: there is none."""
    warnings: tuple[str, ...]


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Read all settings. Raises SettingsError with all problems."""
    reader = SettingsReader(environ)
    common = read_common(reader, default_port=DEFAULT_PORT)
    gateway_tokens = reader.secrets(
        "OPENCLAW_GATEWAY_TOKEN",
        least=GATEWAY_TOKEN_MIN_CHARACTERS,
        advised=GATEWAY_TOKEN_ADVISED_CHARACTERS,
    )
    allowed_origins, wrong = read_allowed_origins(reader.text("GATEWAY_ALLOWED_ORIGINS"))
    reader.problems.extend(f"GATEWAY_ALLOWED_ORIGINS: {problem}" for problem in wrong)
    public_url = reader.public_url("GATEWAY_PUBLIC_URL", ("https", "http", "wss", "ws"))
    upstream = _upstream(reader)
    control_ui_dir = _control_ui_dir(reader) if upstream is None else None
    if upstream is not None and reader.text("CONTROL_UI_DIR"):
        reader.warnings.append(
            "CONTROL_UI_DIR does nothing with UPSTREAM_URL: the upstream's own dashboard is served"
        )
    has_dashboard = control_ui_dir is not None or upstream is not None
    if has_dashboard and not _may_connect_from(public_url, allowed_origins):
        reader.warnings.append(
            f"GATEWAY_ALLOWED_ORIGINS lacks the dashboard's own origin, {web_origin(public_url)}: "
            "browsers that open the dashboard there are refused"
        )
    preauth_limit = reader.integer("GATEWAY_PREAUTH_LIMIT_PER_ADDRESS", 32, least=1, most=1_000_000)
    connection_limit = reader.integer("GATEWAY_CONNECTION_LIMIT", 20_000, least=1, most=1_000_000)
    beat_seconds = reader.seconds("BEAT_SECONDS", 1, least=0.05, most=60)
    lease_seconds = reader.seconds("LEASE_SECONDS", 10, least=1, most=600)
    drain_seconds = reader.seconds("DRAIN_SECONDS", 20, least=0, most=600)
    if lease_seconds < LEASE_MIN_BEATS * beat_seconds:
        reader.problems.append(
            f"LEASE_SECONDS={lease_seconds:g}: must be at least {LEASE_MIN_BEATS} times "
            f"BEAT_SECONDS ({beat_seconds:g}), or one lost message would end the lease"
        )
    local_clients = reader.choice("GATEWAY_LOCAL_CLIENTS", "pair", ("pair", "trust"))
    reader.finish()
    return Settings(
        common=common,
        gateway_tokens=gateway_tokens,
        allowed_origins=allowed_origins,
        trusts_local=local_clients == "trust",
        public_url=public_url,
        control_ui_dir=control_ui_dir,
        preauth_limit_per_address=preauth_limit,
        connection_limit=connection_limit,
        beat_seconds=beat_seconds,
        lease_seconds=lease_seconds,
        drain_seconds=drain_seconds,
        upstream=upstream,
        warnings=tuple(reader.warnings),
    )


def _upstream(reader: SettingsReader) -> Upstream | None:
    """Return the upstream, if there is to be one; its address without a secret is of no use."""
    url = reader.public_url("UPSTREAM_URL", ("ws", "wss"))
    if not url:
        return None  # the secret may be made before there is an upstream
    return Upstream(url, reader.secrets("UPSTREAM_SECRET"))


def _control_ui_dir(reader: SettingsReader) -> Path | None:
    """Return the directory of the dashboard's files, or None if no dashboard is served."""
    given = reader.text("CONTROL_UI_DIR")
    if not given:
        return None
    directory = Path(given)
    try:
        wrong = _ui_problem(directory)
    except OSError as error:  # the name is too long, or a parent directory is not accessible
        wrong = f"cannot be read ({error.strerror})"
    if not wrong:
        return directory
    reader.problems.append(
        f"CONTROL_UI_DIR={shown(given)}: {wrong}; set it to the dashboard's directory, "
        "<npm package openclaw>/dist/control-ui"
    )
    return None


def _ui_problem(directory: Path) -> str:
    if not directory.is_dir():
        return "is not a directory"
    if not os.access(directory, os.R_OK | os.X_OK):
        return "is not readable by this user"
    if not (directory / "index.html").is_file():
        return "contains no index.html"
    return ""


def web_origin(public_url: str) -> str | None:
    """Return the origin of pages at the gateway's public URL."""
    return origin_of(re.sub("^ws", "http", public_url))


def _may_connect_from(public_url: str, allowed_origins: frozenset[str]) -> bool:
    """Return whether a page at the gateway's public URL may connect; True if it is unknown."""
    origin = web_origin(public_url)
    if origin is None:
        return True
    host = urlsplit(origin).netloc
    return origin_problem(origin, host, allowed_origins, direct_loopback=True) is None
