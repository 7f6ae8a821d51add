"""Commands and settings of the services.

Each service gets the runner's environment with only its own secrets, as in production.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from deploy.local.ports import HOST
from deploy.local.programs.supervisor import Program
from deploy.secret_names import ADMIN_TOKEN, GATEWAY_TOKEN, SECRETS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_SHARED_SECRETS: Final = ("BUS_SECRET",)
_OPTIONAL: Final = "UPSTREAM_SECRET"  # a gateway without an upstream needs none
_GATEWAY_SECRETS: Final = (*_SHARED_SECRETS, GATEWAY_TOKEN, _OPTIONAL)
_APPROVAL_SECRETS: Final = (*_SHARED_SECRETS, ADMIN_TOKEN, "TOKEN_SECRET")

# Settings of the runner itself, and those that three processes cannot share.
_NOT_PASSED_ON: Final = frozenset(
    {
        *SECRETS,
        *("DATA_DIR", "GATEWAY_PORT", "APPROVAL_PORT", "UPSTREAM"),
        *("GATEWAY_REUSE_PORT", "OPS_PORT"),
    }
)


def approval_program(
    environ: Mapping[str, str],
    secrets: Mapping[str, str],
    *,
    name: str = "approval",
    redis_url: str,
    port: int,
    log: Path,
) -> Program:
    """Return an approval service that listens on `port`."""
    return Program(
        name=name,
        command=[sys.executable, "-m", "services.approval"],
        env=_settings(environ, secrets, _APPROVAL_SECRETS, redis_url, port),
        log=log,
        checks_settings=True,
    )


def gateway_program(
    environ: Mapping[str, str],
    secrets: Mapping[str, str],
    *,
    name: str = "gateway",
    redis_url: str,
    port: int,
    log: Path,
    shares_port: bool = False,
) -> Program:
    """Return a gateway that listens on `port`, together with others if it shares the port."""
    env = _settings(environ, secrets, _GATEWAY_SECRETS, redis_url, port)
    return Program(
        name=name,
        command=[sys.executable, "-m", "services.gateway"],
        env=env | ({"GATEWAY_REUSE_PORT": "yes"} if shares_port else {}),
        log=log,
        checks_settings=True,
    )


def _settings(
    environ: Mapping[str, str],
    secrets: Mapping[str, str],
    own_secrets: tuple[str, ...],
    redis_url: str,
    port: int,
) -> dict[str, str]:
    passed_on = {name: value for name, value in environ.items() if name not in _NOT_PASSED_ON}
    return {
        "DRAIN_SECONDS": "0",  # stop at once on Ctrl-C
        **passed_on,
        **{name: secrets[name] for name in own_secrets if name in secrets or name != _OPTIONAL},
        "REDIS_URL": redis_url,
        "HOST": HOST,
        "PORT": str(port),
        "PYTHONUNBUFFERED": "1",
    }
