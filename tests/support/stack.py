"""The whole of Latchkey as real processes: one Redis, any number of approvals and gateways."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from typing import TYPE_CHECKING, Any, Final, Self

from deploy.local.ports import HOST, Reservation
from deploy.local.processes import Child, Processes, Program
from deploy.local.readiness import ReadyAnswer, ask_ready
from deploy.local.services import (
    ADMIN_TOKEN,
    GATEWAY_TOKEN,
    SECRETS,
    approval_program,
    gateway_program,
)
from tests.support.redis import RedisServer
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import TracebackType

Env = dict[str, str]

READY_SECONDS: Final = 30.0
STOP_SECONDS: Final = 30.0
# What of this process's own environment the services see; their settings come from the test alone.
_PASSED_ON: Final = ("PATH", "HOME", "LANG", "TMPDIR")


class ServiceProcess:
    """One service on a port of its own, which it keeps through every restart.

    Its log is appended to, so that it tells of all its lives. `boot_id` is new with each of them.
    """

    def __init__(
        self,
        name: str,
        env: Env,
        directory: Path,
        processes: Processes,
        program: Callable[[ServiceProcess, Env], Program],
    ) -> None:
        self.name: Final = name
        self.log: Final = directory / f"{name}.log"
        self._reservation = Reservation()
        self.port: Final = self._reservation.port
        self.url: Final = f"http://{HOST}:{self.port}"
        self.ws_url: Final = f"ws://{HOST}:{self.port}"
        self._env = env
        self._processes = processes
        self._program = program
        self._child: Child | None = None

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._started().pid

    @property
    def boot_id(self) -> str:
        """The name it has on the bus in this life."""
        answer = self.ready_answer()
        assert answer is not None, f"{self.name} does not answer"
        return answer.boot_id

    @property
    def status(self) -> int | None:
        """The exit status, negative for a signal, or None while it runs."""
        return self._started().status()

    def start(self, **env: str) -> None:
        """Start it, with these settings from now on; do not wait."""
        assert self._child is None or self._child.status() is not None, f"{self.name} runs"
        self._env |= env
        self._child = self._processes.start(self._program(self, self._env))

    def restart(self, **env: str) -> None:
        """Kill it if it runs, start it again and wait until it is ready."""
        self.kill9()
        self.start(**env)
        self.wait_ready()

    def ready_answer(self) -> ReadyAnswer | None:
        """Return what `/readyz` says now; None where nobody answers."""
        return next(iter(ask_ready(self.port)), None)

    def wait_ready(self, *, seconds: float = READY_SECONDS) -> None:
        """Return once it is ready; fail at once when it ended."""
        self._wait_for(lambda said: said is not None and said.ready, "is ready", seconds)

    def wait_not_ready(self, *, seconds: float = READY_SECONDS) -> None:
        """Return once it says that it is not ready."""
        self._wait_for(lambda said: said is not None and not said.ready, "is not ready", seconds)

    async def until_ready(self, *, seconds: float = READY_SECONDS) -> None:
        """Like `wait_ready`, while the event loop goes on."""
        await asyncio.to_thread(self.wait_ready, seconds=seconds)

    async def until_not_ready(self, *, seconds: float = READY_SECONDS) -> None:
        """Like `wait_not_ready`, while the event loop goes on."""
        await asyncio.to_thread(self.wait_not_ready, seconds=seconds)

    def wait_ended(self, *, seconds: float = STOP_SECONDS) -> int:
        """Return the exit status once it has ended."""
        wait_until(lambda: self.status is not None, f"{self.name} has ended", seconds=seconds)
        status = self.status
        assert status is not None
        return status

    async def until_ended(self, *, seconds: float = STOP_SECONDS) -> int:
        """Like `wait_ended`, while the event loop goes on."""
        return await asyncio.to_thread(self.wait_ended, seconds=seconds)

    def terminate(self) -> None:
        """Ask it to end (SIGTERM); do not wait."""
        self._started().terminate()

    def kill9(self) -> None:
        """End it at once."""
        self._started().kill()

    def pause(self) -> None:
        """Let it hang (SIGSTOP): connections and subscriptions stay, nothing is answered."""
        self._started().pause()

    def resume(self) -> None:
        """Let a paused one go on."""
        self._started().resume()

    def logs(self) -> list[dict[str, Any]]:
        """Return the log's JSON lines so far, a line still being written left out."""
        text = self.log.read_text(errors="replace")
        lines = text[: text.rfind("\n") + 1].splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def log_text(self) -> str:
        """Return the log as it stands, tracebacks included."""
        return self.log.read_text(errors="replace")

    def release(self) -> None:
        """Let the port go."""
        self._reservation.release()

    def _wait_for(
        self, condition: Callable[[ReadyAnswer | None], bool], what: str, seconds: float
    ) -> None:
        child = self._started()
        said: ReadyAnswer | None = None

        def holds() -> bool:
            nonlocal said
            child.require_alive()
            said = self.ready_answer()
            return condition(said)

        try:
            wait_until(holds, f"{self.name} {what}", seconds=seconds)
        except AssertionError as error:
            error.add_note(f"it said last: {said}")
            error.add_note(self.log_text()[-4000:])
            raise

    def _started(self) -> Child:
        assert self._child is not None, f"{self.name} was not started"
        return self._child


class Stack:
    """Redis, approvals and gateways. `env` is for all services, the others for their kind.

    Each setting may be any of the services' own, REDIS_URL and secrets included. Entering starts
    everything and waits until it is ready; leaving ends everything.
    """

    def __init__(
        self,
        directory: Path,
        *,
        approvals: int = 1,
        gateways: int = 2,
        env: Mapping[str, str] | None = None,
        approval_env: Mapping[str, str] | None = None,
        gateway_env: Mapping[str, str] | None = None,
    ) -> None:
        self._directory = directory
        self._processes = Processes()
        self._secrets = {name: secrets.token_hex(32) for name in SECRETS}
        self._env: Env = {
            **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
            "LOG_FORMAT": "json",
            **(env or {}),
        }
        self._approval_env = dict(approval_env or {})
        self._gateway_env = dict(gateway_env or {})
        self.redis: Final = RedisServer(directory)
        self.approvals: Final[list[ServiceProcess]] = []
        self.gateways: Final[list[ServiceProcess]] = []
        for _ in range(approvals):
            self._new_approval({})
        for _ in range(gateways):
            self._new_gateway({})

    @property
    def admin_token(self) -> str:
        """The operators' token that approvals take."""
        return self._secret(ADMIN_TOKEN, self._approval_env)

    @property
    def gateway_token(self) -> str:
        """The shared token that gateways take."""
        return self._secret(GATEWAY_TOKEN, self._gateway_env)

    @property
    def services(self) -> list[ServiceProcess]:
        """Approvals, then gateways."""
        return [*self.approvals, *self.gateways]

    def start(self) -> None:
        """Start everything and wait until it is ready."""
        self.redis.start()
        for service in self.services:
            service.start()
        for service in self.services:
            service.wait_ready()

    def add_approval(self, **env: str) -> ServiceProcess:
        """Start one more approval, with these settings, and wait until it is ready."""
        return self._ready(self._new_approval(env))

    def add_gateway(self, **env: str) -> ServiceProcess:
        """Start one more gateway, with these settings, and wait until it is ready."""
        return self._ready(self._new_gateway(env))

    def close(self) -> None:
        """Kill everything."""
        self._processes.close()
        self.redis.close()
        for service in self.services:
            service.release()

    def _ready(self, service: ServiceProcess) -> ServiceProcess:
        service.start()
        service.wait_ready()
        return service

    def _new_approval(self, env: Env) -> ServiceProcess:
        def program(service: ServiceProcess, env: Env) -> Program:
            return approval_program(
                env,
                self._secrets_for(env),
                name=service.name,
                redis_url=env.get("REDIS_URL", self.redis.approval_url),
                port=service.port,
                log=service.log,
            )

        name = f"approval-{len(self.approvals) + 1}"
        return self._add(self.approvals, name, self._approval_env | env, program)

    def _new_gateway(self, env: Env) -> ServiceProcess:
        def program(service: ServiceProcess, env: Env) -> Program:
            return gateway_program(
                env,
                self._secrets_for(env),
                name=service.name,
                redis_url=env.get("REDIS_URL", self.redis.gateway_url),
                port=service.port,
                log=service.log,
            )

        name = f"gateway-{len(self.gateways) + 1}"
        return self._add(self.gateways, name, self._gateway_env | env, program)

    def _add(
        self,
        to: list[ServiceProcess],
        name: str,
        env: Env,
        program: Callable[[ServiceProcess, Env], Program],
    ) -> ServiceProcess:
        service = ServiceProcess(name, self._env | env, self._directory, self._processes, program)
        to.append(service)
        return service

    def _secrets_for(self, env: Env) -> dict[str, str]:
        return {name: env.get(name, made) for name, made in self._secrets.items()}

    def _secret(self, name: str, kind_env: Env) -> str:
        """Return the value in use: the first, where a test gave a comma list."""
        return self._secrets_for(self._env | kind_env)[name].partition(",")[0]

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
