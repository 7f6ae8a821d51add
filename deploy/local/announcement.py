"""The message printed when everything is ready. It contains no secrets."""

from __future__ import annotations

import shlex
import shutil
from typing import TYPE_CHECKING, Final

from deploy.local.dashboard_package import Package
from deploy.local.places import OPENCLAW_PACKAGE, shown
from deploy.local.ports import HOST
from deploy.secret_names import ADMIN_TOKEN, GATEWAY_TOKEN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploy.local.programs.openclaw import OpenClaw
    from deploy.local.settings import RunSettings

_DASHBOARD: Final = """
Open the dashboard. For its "Gateway secret", enter the gateway token, which
this command prints:

  {address}
  echo "{token}"

Approve the browser as described below. The dashboard always asks for full
control. Ignore the commands that it suggests: they are for an OpenClaw without
Latchkey.
"""

_MODEL: Final = """
OpenClaw needs a model to chat: without one, the dashboard says "No models
available". Choose a provider on this page, or run this command in another
terminal:

  {address}settings/model-setup
  {command} configure
"""

_LOCAL: Final = """
`openclaw devices list` on this machine reports "missing scope" unless you
start with GATEWAY_LOCAL_CLIENTS=trust. Do so if nobody else uses this machine.
"""


def announcement(
    settings: RunSettings,
    environ: Mapping[str, str],
    *,
    gateways: int,
    gateway_port: int,
    approval_port: int,
    redis_port: int | None,
    openclaw: OpenClaw | None,
) -> str:
    """Return the addresses, and how to connect and approve a device.

    `redis_port` is None if REDIS_URL is set, `openclaw` if OpenClaw is not run.
    """
    api = f"http://{HOST}:{approval_port}"
    gateway_token = _in_shell(settings, environ, GATEWAY_TOKEN)
    admin_token = _in_shell(settings, environ, ADMIN_TOKEN)
    where = _where(settings)
    redis = (
        "the one REDIS_URL names"
        if redis_port is None
        else f"{HOST}:{redis_port}, data in {shown(settings.redis_dir)}"
    )
    address = f"http://{HOST}:{gateway_port}/"
    dashboard = (
        _DASHBOARD.format(address=address, token=gateway_token)
        if any(environ.get(name, "").strip() for name in ("CONTROL_UI_DIR", "UPSTREAM_URL"))
        else ""
    )
    upstream = "" if openclaw is None else f"\n  openclaw  {openclaw.url}  (only for the gateways)"
    model = (
        "" if openclaw is None else _MODEL.format(address=address, command=shown(openclaw.command))
    )
    local = "" if environ.get("GATEWAY_LOCAL_CLIENTS", "").strip() == "trust" else _LOCAL
    replicas = (
        "two replicas on one port; each connection reaches either"
        if gateways > 1
        else "one replica: only on Linux can two share a port"
    )
    return f"""\
Latchkey is ready.

  gateways  ws://{HOST}:{gateway_port}  ({replicas})
  devices   {api}/setup  (Manage Devices, for operators)
  approval  {api}
  redis     {redis}{upstream}
  secrets   {shown(settings.secrets_file)}
  logs      {shown(settings.logs)}

Connect a device: this example, or any OpenClaw client with the gateway token:

  .venv/bin/python -m shared.device{where}

  export OPENCLAW_GATEWAY_TOKEN="{gateway_token}"
  {_openclaw(environ)} node run --host {HOST} --port {gateway_port}
{dashboard}{model}{local}
A device gets "pairing required" until you approve it at

  {api}/setup

with the admin token, which this prints:

  TOKEN="{admin_token}"
  echo "$TOKEN"

or in a terminal, where the command finds the token by itself:

  bin/latchkey devices approve --latest{where}

Press Ctrl-C to stop everything.
"""


def _openclaw(environ: Mapping[str, str]) -> str:
    """Return how to call `openclaw` here: from PATH, as `make` installed it, or with npx."""
    if shutil.which("openclaw", path=environ.get("PATH", "")):
        return "openclaw"
    programs = OPENCLAW_PACKAGE / "node_modules" / ".bin"
    if (programs / "openclaw").exists():
        return f'PATH={shlex.quote(shown(programs))}:"$PATH" openclaw'
    return f"npx --yes {Package().specification}"


def _where(settings: RunSettings) -> str:
    """Return the option that a command needs to find this run; empty if none."""
    if settings.is_default_data:
        return ""
    return f" --secrets {shlex.quote(shown(settings.secrets_file))}"


def _in_shell(settings: RunSettings, environ: Mapping[str, str], name: str) -> str:
    """Return a shell expression for the secret, or the first of a comma-separated list."""
    if environ.get(name, "").strip():
        return f"${{{name}%%,*}}"
    file = shlex.quote(shown(settings.secrets_file))
    return rf"$(sed -n 's/^{name}=\([^,]*\).*/\1/p' {file})"
