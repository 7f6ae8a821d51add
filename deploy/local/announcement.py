"""What the person at the terminal reads when everything is ready. No secret is printed."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

from deploy.local.places import DEFAULT_DATA_DIR, shown
from deploy.local.ports import HOST
from deploy.local.services import ADMIN_TOKEN, GATEWAY_TOKEN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploy.local.settings import RunSettings

DEFAULT_API: Final = f"http://{HOST}:18790"
"""What the command talks to unless told otherwise."""
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
    approving = _approving(settings, environ, api)
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
    device = _device(settings, environ, f"ws://{HOST}:{gateway_port}")
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

  {device}

  export OPENCLAW_GATEWAY_TOKEN="{gateway_token}"
  openclaw node run --host {HOST} --port {gateway_port}
{dashboard}{local}
A device is told "pairing required" until you approve it, at

  {api}/setup

with the admin token, which this prints:

  TOKEN="{admin_token}"
  echo "$TOKEN"

or at a terminal, where the command finds the token by itself:

  {approving}

Ctrl-C ends everything.
"""


def _device(settings: RunSettings, environ: Mapping[str, str], url: str) -> str:
    """Return the command that connects a device of ours, with what it does not know by itself."""
    return f".venv/bin/python -m shared.device {url}{_file(settings, environ, GATEWAY_TOKEN)}"


def _approving(settings: RunSettings, environ: Mapping[str, str], api: str) -> str:
    """Return the command that approves, with what it does not know by itself."""
    where = f"APPROVAL_URL={api} " if api != DEFAULT_API else ""
    return f"{where}bin/latchkey devices approve --latest{_file(settings, environ, ADMIN_TOKEN)}"


def _file(settings: RunSettings, environ: Mapping[str, str], name: str) -> str:
    """Return the option that names the secrets file, where a command would not find the secret."""
    known = environ.get(name, "").strip() or settings.data_dir == DEFAULT_DATA_DIR
    return "" if known else f" --secrets {shlex.quote(shown(settings.secrets_file))}"


def _in_shell(settings: RunSettings, environ: Mapping[str, str], name: str) -> str:
    """Return what a shell replaces by the secret (the first, where it is a comma list)."""
    if environ.get(name, "").strip():
        return f"${{{name}%%,*}}"
    file = shlex.quote(shown(settings.secrets_file))
    return rf"$(sed -n 's/^{name}=\([^,]*\).*/\1/p' {file})"
