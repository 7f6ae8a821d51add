"""One gateway process on the test's Redis, without an approval."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from deploy.local.programs.services import gateway_program
from tools.support.processes.processes import Processes
from tools.support.processes.service import ServiceProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from deploy.local.programs.supervisor import Program
    from tools.support.processes.redis import RedisServer

BUS_SECRET: Final = "the bus secret of these tests: long enough"
GATEWAY_TOKEN: Final = "the gateway token of these tests: long enough"


@contextmanager
def gateway_process(
    directory: Path,
    redis: RedisServer,
    *,
    name: str = "gateway",
    descriptors: int | None = None,
    **settings: str,
) -> Iterator[ServiceProcess]:
    """Start a gateway with these settings, which include OPS_PORT, without waiting.

    `descriptors` limits its open file descriptors.
    """

    def program(service: ServiceProcess, _env: dict[str, str]) -> Program:
        secrets = {"BUS_SECRET": BUS_SECRET, "OPENCLAW_GATEWAY_TOKEN": GATEWAY_TOKEN}
        made = gateway_program(
            {"LOG_FORMAT": "json"},
            secrets,
            name=service.name,
            redis_url=redis.gateway_url,
            port=service.port,
            log=service.log,
        )
        made = replace(made, env={**made.env, **settings})
        if descriptors is not None:
            limited = ["/bin/sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh"]
            made = replace(made, command=[*limited, *made.command])
        return made

    with Processes() as processes:
        service = ServiceProcess(name, {}, directory, processes, program)
        try:
            service.start()
            yield service
        finally:
            service.release()
