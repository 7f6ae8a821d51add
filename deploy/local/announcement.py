"""What the person at the terminal reads when everything is ready. No secret is printed."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

from deploy.local.places import shown
from deploy.local.ports import HOST
from deploy.local.services import ADMIN_TOKEN, GATEWAY_TOKEN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploy.local.settings import RunSettings

_DASHBOARD: Final = """
Open the dashboard and give it the gateway token, which this prints:

  {address}
  echo "{token}"
"""

_LOCAL: Final = """
`openclaw devices list` on this machine says "missing scope" until you start
with GATEWAY_LOCAL_CLIENTS=trust; do so if nobody else uses the machine.
"""


def announcement(
    settings: RunSettings,
    environ: Mapping[str, str],
    *,
    gateway_port: int,
    approval_port: int,
    redis_port: int | None,
) -> str:
    """Return addresses, how to connect a device and where to approve it.

    `redis_port` is None where REDIS_URL names a Redis of its own.
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
    dashboard = (
        _DASHBOARD.format(address=f"http://{HOST}:{gateway_port}/", token=gateway_token)
        if environ.get("CONTROL_UI_DIR", "").strip()
        else ""
    )
    local = "" if environ.get("GATEWAY_LOCAL_CLIENTS", "").strip() == "trust" else _LOCAL
    return f"""\
Latchkey is ready.

  gateways  ws://{HOST}:{gateway_port}  (two, a connection lands on either)
  devices   {api}/setup  (Manage Devices, for operators)
  approval  {api}
  redis     {redis}
  secrets   {shown(settings.secrets_file)}
  logs      {shown(settings.logs)}

Connect a device: ours, or any OpenClaw client with the gateway token:

  .venv/bin/python -m shared.device{where}

  export OPENCLAW_GATEWAY_TOKEN="{gateway_token}"
  openclaw node run --host {HOST} --port {gateway_port}
{dashboard}{local}
A device is told "pairing required" until you approve it, at

  {api}/setup

with the admin token, which this prints:

  TOKEN="{admin_token}"
  echo "$TOKEN"

or at a terminal, where the command finds the token by itself:

  bin/latchkey devices approve --latest{where}

Ctrl-C ends everything.
"""


def _where(settings: RunSettings) -> str:
    """Return the option by which a command finds this run, where it does not look by itself."""
    if settings.is_default_data:
        return ""
    return f" --secrets {shlex.quote(shown(settings.secrets_file))}"


def _in_shell(settings: RunSettings, environ: Mapping[str, str], name: str) -> str:
    """Return what a shell replaces by the secret (the first, where it is a comma list)."""
    if environ.get(name, "").strip():
        return f"${{{name}%%,*}}"
    file = shlex.quote(shown(settings.secrets_file))
    return rf"$(sed -n 's/^{name}=\([^,]*\).*/\1/p' {file})"
