"""All of Latchkey as real processes: one Redis, any number of approvals and gateways."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING, Final, Self

from deploy.local.places import ROOT
from deploy.local.programs.services import approval_program, gateway_program
from deploy.secret_names import ADMIN_TOKEN, GATEWAY_TOKEN, SECRETS
from tools.support.processes.processes import Processes
from tools.support.processes.redis import RedisServer
from tools.support.processes.service import Env, ServiceProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from deploy.local.programs.supervisor import Program
    from deploy.local.redis.binary import RedisBinary

# Environment variables that the services inherit; their settings come from the test alone.
_PASSED_ON: Final = ("PATH", "HOME", "LANG", "TMPDIR")


class Stack:
    """Redis, approvals and gateways. `env` applies to all services, the others to their kind.

    Any setting of the services is allowed, including REDIS_URL and secrets. Entering starts
    everything and waits until it is ready; leaving ends everything. `code` is the clone whose
    services are started: that of an earlier commit, to compare with it.
    """

    def __init__(
        self,
        directory: Path,
        *,
        approvals: int = 1,
        gateways: int = 2,
        redis: RedisBinary | None = None,
        env: Mapping[str, str] | None = None,
        approval_env: Mapping[str, str] | None = None,
        gateway_env: Mapping[str, str] | None = None,
        code: Path = ROOT,
    ) -> None:
        self._directory = directory
        self._processes = Processes(code)
        self._secrets = {name: secrets.token_hex(32) for name in SECRETS}
        self._env: Env = {
            **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
            "LOG_FORMAT": "json",
            **(env or {}),
        }
        self._approval_env = dict(approval_env or {})
        self._gateway_env = dict(gateway_env or {})
        self.redis: Final = RedisServer(directory, redis, code=code)
        self.approvals: Final[list[ServiceProcess]] = []
        self.gateways: Final[list[ServiceProcess]] = []
        for _ in range(approvals):
            self._new_approval({})
        for _ in range(gateways):
            self._new_gateway({})

    @property
    def admin_token(self) -> str:
        """The admin token of the approvals."""
        return self._secret(ADMIN_TOKEN, self._approval_env)

    @property
    def gateway_token(self) -> str:
        """The shared token of the gateways."""
        return self._secret(GATEWAY_TOKEN, self._gateway_env)

    @property
    def bus_secret(self) -> str:
        """The secret that seals the services' messages."""
        return self._secret("BUS_SECRET", {})

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

    def bring_back(self) -> None:
        """Make sure everything runs and is ready, whether it is paused, ended or running."""
        self.redis.bring_back()
        for service in self.services:
            service.bring_back()
        for service in self.services:
            service.wait_ready()

    def add_approval(self, **env: str) -> ServiceProcess:
        """Start another approval with these settings, and wait until it is ready."""
        return self._ready(self._new_approval(env))

    def add_gateway(self, **env: str) -> ServiceProcess:
        """Start another gateway with these settings, and wait until it is ready."""
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
        return self._new(
            self.approvals,
            "approval",
            approval_program,
            self.redis.approval_url,
            self._approval_env | env,
        )

    def _new_gateway(self, env: Env) -> ServiceProcess:
        return self._new(
            self.gateways,
            "gateway",
            gateway_program,
            self.redis.gateway_url,
            self._gateway_env | env,
        )

    def _new(
        self,
        to: list[ServiceProcess],
        kind: str,
        make: Callable[..., Program],
        redis_url: str,
        env: Env,
    ) -> ServiceProcess:
        def program(service: ServiceProcess, env: Env) -> Program:
            return make(
                env,
                self._secrets_for(env),
                name=service.name,
                redis_url=env.get("REDIS_URL", redis_url),
                port=service.port,
                log=service.log,
            )

        name = f"{kind}-{len(to) + 1}"
        service = ServiceProcess(name, self._env | env, self._directory, self._processes, program)
        to.append(service)
        return service

    def _secrets_for(self, env: Env) -> dict[str, str]:
        return {name: env.get(name, made) for name, made in self._secrets.items()}

    def _secret(self, name: str, kind_env: Env) -> str:
        """Return the value in use: the first of a comma list."""
        return self._secrets_for(self._env | kind_env)[name].partition(",")[0]

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
