"""The gateway's settings, read from environment variables."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from services.gateway.handshake.origin import allowed_origins as read_allowed_origins
from services.gateway.handshake.origin import origin_problem
from shared.settings.declarations import AnySetting, Choice, Number, Secret, Setting
from shared.settings.environment import (
    COMMON,
    GATEWAY_PUBLIC_URL,
    CommonSettings,
    Secrets,
    SettingsReader,
    origin_of,
    port_setting,
    read_common,
    shown,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

LEASE_MIN_HEARTBEATS: Final = 3
MEBIBYTE: Final = 1024 * 1024

PORT: Final = port_setting(18789)
OPENCLAW_GATEWAY_TOKEN: Final = Secret(
    "OPENCLAW_GATEWAY_TOKEN",
    "The gateway token that all devices present.",
    least=16,
    advised=32,
)
GATEWAY_ALLOWED_ORIGINS: Final = Setting(
    "GATEWAY_ALLOWED_ORIGINS",
    "Comma list of origins whose pages may connect, such as `https://chat.example`,"
    " `tauri://localhost` or `chrome-extension://<id>`; `*` allows any. Patterns, `null` and"
    " `file://` are errors.",
)
CONTROL_UI_DIR: Final = Setting(
    "CONTROL_UI_DIR",
    "Directory of OpenClaw's dashboard, which is then served at `/`. Ignored with `UPSTREAM_URL`,"
    " where OpenClaw's own dashboard is served.",
)
UPSTREAM_URL: Final = Setting(
    "UPSTREAM_URL",
    "The OpenClaw gateway behind this one: `ws://` or `wss://`, on a private network.",
)
UPSTREAM_SECRET: Final = Secret(
    "UPSTREAM_SECRET",
    "The names of the headers that OpenClaw trusts are derived from it. With a comma list, the"
    " headers of all values are sent, so OpenClaw may be configured with those of any.",
    required="required with `UPSTREAM_URL`",
)
GATEWAY_PREAUTH_LIMIT_PER_ADDRESS: Final = Number(
    "GATEWAY_PREAUTH_LIMIT_PER_ADDRESS",
    "Maximum number of WebSockets without a device from one address (IPv6: one /64): those that are"
    " not authenticated yet, and clients that present no device. This number plus 8 limits all its"
    " sockets except WebSockets with a device. Sockets of `TRUSTED_PROXIES` are exempt.",
    32,
    least=1,
    most=1_000_000,
)
GATEWAY_CONNECTION_LIMIT: Final = Number(
    "GATEWAY_CONNECTION_LIMIT",
    "Maximum number of WebSockets, lowered to what the limit on file descriptors allows. When it is"
    " reached, newcomers displace clients without a device. 64 more may be closing, and 64 more"
    " sockets of any kind are accepted.",
    20_000,
    least=1,
    most=1_000_000,
)
GATEWAY_CONNECTION_LIMIT_PER_ADDRESS: Final = Number(
    "GATEWAY_CONNECTION_LIMIT_PER_ADDRESS",
    "Maximum number of WebSockets from one address (IPv6: one /48); 0: half of"
    " `GATEWAY_CONNECTION_LIMIT`. Raise it if more devices share one address. Trusted local clients"
    " and addresses in `TRUSTED_PROXIES` are exempt.",
    0,
    least=0,
    most=1_000_000,
)
GATEWAY_CONNECTION_LIMIT_PER_DEVICE: Final = Number(
    "GATEWAY_CONNECTION_LIMIT_PER_DEVICE",
    "Maximum number of WebSockets of one device, such as the tabs of a browser. When it is"
    " exceeded, the oldest is closed with 1013.",
    64,
    least=1,
    most=1_000_000,
)
GATEWAY_WAIT_SECONDS: Final = Number(
    "GATEWAY_WAIT_SECONDS",
    "How long a client whose device needs approval is held instead of refused, in seconds, so that"
    " it is admitted as soon as the request is approved; 0: not at all. Clients that cannot wait"
    " that long are held for less, and unknown ones not at all: docs/onboarding.md lists them."
    " Ignored with `UPSTREAM_URL`.",
    0,
    least=0,
    most=30,
)
GATEWAY_MEMORY_LIMIT_MB: Final = Number(
    "GATEWAY_MEMORY_LIMIT_MB",
    "Maximum total size, in MiB, of WebSocket messages that are incomplete or that clients have not"
    " read. When it is exceeded, the connection that holds the most is closed. The process may use"
    " twice as much memory for them.",
    128,
    least=64,
    most=65_536,
)
BEAT_SECONDS: Final = Number(
    "BEAT_SECONDS", "Interval of heartbeats, in seconds.", 1, least=0.05, most=60
)
LEASE_SECONDS: Final = Number(
    "LEASE_SECONDS",
    "How long a gateway serves without an answered heartbeat, in seconds; at least three"
    " heartbeats.",
    10,
    least=1,
    most=600,
)
DRAIN_SECONDS: Final = Number(
    "DRAIN_SECONDS",
    "How long a gateway drains after SIGTERM, in seconds: clients get `shutdown` and are closed"
    " with 1012, spread over that time; 0 closes them at once. Let the platform kill the process"
    " 2 s later at the earliest.",
    20,
    least=0,
    most=600,
)
GATEWAY_REUSE_PORT: Final = Choice(
    "GATEWAY_REUSE_PORT",
    "`yes`: gateways of one user may listen on one port, and Linux distributes connections over"
    " them (`SO_REUSEPORT`); one started by mistake then gets a share of them too.",
    "no",
    ("no", "yes"),
)
GATEWAY_LOCAL_CLIENTS: Final = Choice(
    "GATEWAY_LOCAL_CLIENTS",
    "`pair`: local clients need approval like all others. `trust`: local operators with the gateway"
    " token need none; read docs/security.md first.",
    "pair",
    ("pair", "trust"),
)
OWN: Final[tuple[AnySetting, ...]] = (
    PORT,
    OPENCLAW_GATEWAY_TOKEN,
    GATEWAY_ALLOWED_ORIGINS,
    CONTROL_UI_DIR,
    UPSTREAM_URL,
    UPSTREAM_SECRET,
    GATEWAY_PREAUTH_LIMIT_PER_ADDRESS,
    GATEWAY_CONNECTION_LIMIT,
    GATEWAY_CONNECTION_LIMIT_PER_ADDRESS,
    GATEWAY_CONNECTION_LIMIT_PER_DEVICE,
    GATEWAY_WAIT_SECONDS,
    GATEWAY_MEMORY_LIMIT_MB,
    BEAT_SECONDS,
    LEASE_SECONDS,
    DRAIN_SECONDS,
    GATEWAY_REUSE_PORT,
    GATEWAY_LOCAL_CLIENTS,
)
ALL: Final = (*COMMON, *OWN)


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
    connection_limit_per_address: int
    """0: half of the connection limit."""
    connection_limit_per_device: int
    wait_seconds: float
    """How long clients are held that need approval; 0: not at all."""
    memory_limit_mb: int
    beat_seconds: float
    lease_seconds: float
    drain_seconds: float
    reuse_port: bool
    upstream: Upstream | None
    """The OpenClaw gateway behind this one; None: there is none."""
    warnings: tuple[str, ...]


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Read all settings. Raises SettingsError with all problems."""
    reader = SettingsReader(environ)
    common = read_common(reader, PORT)
    gateway_tokens = reader.secrets(OPENCLAW_GATEWAY_TOKEN)
    allowed_origins, wrong = read_allowed_origins(reader.text(GATEWAY_ALLOWED_ORIGINS))
    reader.problems.extend(f"GATEWAY_ALLOWED_ORIGINS: {problem}" for problem in wrong)
    public_url = reader.public_url(GATEWAY_PUBLIC_URL, ("https", "http", "wss", "ws"))
    upstream = _upstream(reader)
    control_ui_dir = _control_ui_dir(reader) if upstream is None else None
    if upstream is not None and reader.text(CONTROL_UI_DIR):
        reader.warnings.append(
            "CONTROL_UI_DIR does nothing with UPSTREAM_URL: the upstream's own dashboard is served"
        )
    has_dashboard = control_ui_dir is not None or upstream is not None
    if has_dashboard and not _may_connect_from(public_url, allowed_origins):
        reader.warnings.append(
            f"GATEWAY_ALLOWED_ORIGINS lacks the dashboard's own origin, {web_origin(public_url)}: "
            "browsers that open the dashboard there are refused"
        )
    preauth_limit = reader.integer(GATEWAY_PREAUTH_LIMIT_PER_ADDRESS)
    connection_limit = reader.integer(GATEWAY_CONNECTION_LIMIT)
    per_address = reader.integer(GATEWAY_CONNECTION_LIMIT_PER_ADDRESS)
    per_device = reader.integer(GATEWAY_CONNECTION_LIMIT_PER_DEVICE)
    wait_seconds = _wait_seconds(reader, upstream)
    memory_limit_mb = reader.integer(GATEWAY_MEMORY_LIMIT_MB)
    beat_seconds = reader.seconds(BEAT_SECONDS)
    lease_seconds = reader.seconds(LEASE_SECONDS)
    drain_seconds = reader.seconds(DRAIN_SECONDS)
    if lease_seconds < LEASE_MIN_HEARTBEATS * beat_seconds:
        reader.problems.append(
            f"LEASE_SECONDS={lease_seconds:g}: must be at least {LEASE_MIN_HEARTBEATS} times "
            f"BEAT_SECONDS ({beat_seconds:g}), or one lost message would end the lease"
        )
    reuse_port = reader.choice(GATEWAY_REUSE_PORT) == "yes"
    if reuse_port and sys.platform != "linux":
        reader.problems.append(
            "GATEWAY_REUSE_PORT=yes: only Linux distributes connections over gateways on one port"
        )
    local_clients = reader.choice(GATEWAY_LOCAL_CLIENTS)
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
        connection_limit_per_address=per_address,
        connection_limit_per_device=per_device,
        wait_seconds=wait_seconds,
        memory_limit_mb=memory_limit_mb,
        beat_seconds=beat_seconds,
        lease_seconds=lease_seconds,
        drain_seconds=drain_seconds,
        reuse_port=reuse_port,
        upstream=upstream,
        warnings=tuple(reader.warnings),
    )


def _upstream(reader: SettingsReader) -> Upstream | None:
    """Return the upstream, if there is to be one; its address without a secret is of no use."""
    url = reader.public_url(UPSTREAM_URL, ("ws", "wss"))
    if not url:
        return None  # the secret may be made before there is an upstream
    return Upstream(url, reader.secrets(UPSTREAM_SECRET))


def _wait_seconds(reader: SettingsReader, upstream: Upstream | None) -> float:
    """Return how long clients are held that need approval."""
    seconds = reader.seconds(GATEWAY_WAIT_SECONDS)
    if upstream is None or not seconds:
        return seconds
    # The client has signed the upstream's challenge, which expires while it is held.
    reader.warnings.append(
        "GATEWAY_WAIT_SECONDS does nothing with UPSTREAM_URL: the upstream does not wait for a "
        "held client"
    )
    return 0.0


def _control_ui_dir(reader: SettingsReader) -> Path | None:
    """Return the directory of the dashboard's files, or None if no dashboard is served."""
    given = reader.text(CONTROL_UI_DIR)
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
