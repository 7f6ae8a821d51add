"""The system under load: a temporary stack, what `make run` started, or a deployment."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from deploy.local.places import DEFAULT_DATA_DIR
from deploy.secret_names import ADMIN_TOKEN, GATEWAY_TOKEN
from tools.load.client.target import Target, is_loopback, read_target
from tools.load.server.processes import Watched, find_servers, named
from tools.support.processes.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tools.load.plan import Plan

DEFAULT_APPROVAL: Final = "http://127.0.0.1:18790"
NO_LIMIT: Final = 1_000_000
CONNECTIONS_BESIDE: Final = 1000
"""How many connections a temporary stack allows beyond those to be held."""


class NoSystemError(Exception):
    """The target is not sufficiently specified."""


@dataclass(frozen=True, slots=True)
class SystemUnderTest:
    """A gateway, the approval service behind it, and their tokens."""

    target: Target
    approval_url: str
    gateway_token: str = field(repr=False)
    admin_token: str = field(repr=False)
    watched: tuple[Watched, ...] = ()
    more_targets: tuple[Target, ...] = ()
    """Further gateways of the same stack; workers are spread over all of them."""
    restart: Callable[[], Watched] | None = None
    """Kills and restarts the gateway; only for a temporary stack."""

    @property
    def is_ours(self) -> bool:
        """Whether it was started for this run and ends with it."""
        return self.restart is not None


@contextmanager
def system(plan: Plan, environ: Mapping[str, str]) -> Iterator[SystemUnderTest]:
    """Start a stack, or use what the plan names. Raises NoSystemError."""
    if plan.url:
        yield given(plan, environ)
        return
    connections = str(max(20_000, plan.connections + CONNECTIONS_BESIDE))
    env = {
        "GATEWAY_CONNECTION_LIMIT": connections,
        "GATEWAY_CONNECTION_LIMIT_PER_ADDRESS": connections,  # all are from this machine
        "GATEWAY_CONNECTION_LIMIT_PER_DEVICE": connections,
    }
    if plan.sources == 1 and not plan.sources_given:
        env["GATEWAY_PREAUTH_LIMIT_PER_ADDRESS"] = str(NO_LIMIT)  # there is only one address
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        try:
            started = stack.enter_context(Stack(directory, gateways=1, gateway_env=env))
        except AssertionError as error:
            raise NoSystemError(f"the temporary stack did not start: {error}") from error
        yield own(started, plan)


def own(stack: Stack, plan: Plan) -> SystemUnderTest:
    """Return the system for a stack of this process."""
    gateway, approval = stack.gateways[0], stack.approvals[0]

    def restart() -> Watched:
        gateway.restart()
        return Watched("gateway", gateway.pid)

    return SystemUnderTest(
        target=read_target(gateway.ws_url),
        approval_url=approval.url,
        gateway_token=stack.gateway_token,
        admin_token=stack.admin_token,
        watched=(
            *(Watched("gateway", gateway.pid) for gateway in stack.gateways),
            *(Watched("approval", approval.pid) for approval in stack.approvals),
            Watched("redis", stack.redis.pid),
            *named(plan.watched),
        ),
        restart=restart,
    )


def given(plan: Plan, environ: Mapping[str, str]) -> SystemUnderTest:
    """Return the system that a plan names; tokens are read from the environment.

    For this machine's own run, they may be those of `make run`. Raises NoSystemError.
    """
    target = read_target(plan.url)
    approval_url = plan.approval_url or (DEFAULT_APPROVAL if target.is_loopback else "")
    approval = urlsplit(approval_url)
    if approval.scheme not in {"http", "https"} or not approval.hostname:
        raise NoSystemError(
            "give --approval-url (or APPROVAL_URL), the address of the approval service"
        )
    if approval.scheme == "http" and not is_loopback(approval.hostname):
        raise NoSystemError(
            f"{approval_url}: the admin token would be sent unencrypted; use https://"
        )
    tokens = {
        name: environ.get(name, "").partition(",")[0].strip()
        for name in (GATEWAY_TOKEN, ADMIN_TOKEN)
    }
    if target.is_loopback and is_loopback(approval.hostname):
        stored = _read_values(secrets_file(environ))
        tokens = {name: value or stored.get(name, "") for name, value in tokens.items()}
    if missing := [name for name, value in tokens.items() if not value]:
        raise NoSystemError(f"not set in the environment: {', '.join(missing)}")
    watched = find_servers(target.port, approval.port) if target.is_loopback else []
    seen = {item.pid for item in watched}
    return SystemUnderTest(
        target=target,
        approval_url=approval_url,
        gateway_token=tokens[GATEWAY_TOKEN],
        admin_token=tokens[ADMIN_TOKEN],
        watched=(*watched, *(item for item in named(plan.watched) if item.pid not in seen)),
    )


def secrets_file(environ: Mapping[str, str]) -> Path:
    """Return where `make run` stores its secrets."""
    return Path(environ.get("DATA_DIR", "") or DEFAULT_DATA_DIR) / "secrets.env"


def _read_values(path: Path) -> dict[str, str]:
    """Read NAME=value lines; empty if there is no such file."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.partition("=") for line in lines if not line.startswith("#"))
    return {name.strip(): value.partition(",")[0].strip() for name, _, value in pairs}
