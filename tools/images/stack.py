"""The deployment of docker-compose.yml as a project of its own, and a client in its network."""

from __future__ import annotations

import json
import secrets
import time
from typing import TYPE_CHECKING, Any, Final, Self

from deploy.secret_names import SECRETS
from tools.images.build import build_environ
from tools.images.engine import Docker, DockerFailed, Done

if TYPE_CHECKING:
    from collections.abc import Callable

PROJECT: Final = "latchkey-test"
CLIENT: Final = f"{PROJECT}-client"
CLIENT_ADDRESS: Final = "172.30.18.77"
FRONT_PROXY_ADDRESS: Final = "172.30.18.3"
"""The address that docker-compose.yml has the proxy believe."""
STRANGER_ADDRESS: Final = "172.30.18.78"
UP_SECONDS: Final = 240
HEALTH_SECONDS: Final = 90
"""Longer than the health checks need to notice."""


class Stack:
    """All containers, with generated secrets. Replaces nothing of a Latchkey on the same engine."""

    def __init__(self, docker: Docker) -> None:
        self.secrets: Final = {name: secrets.token_hex(32) for name in SECRETS}
        self.image: Final = PROJECT
        self.docker: Final = Docker(
            {
                **build_environ(),
                **self.secrets,
                "COMPOSE_PROJECT_NAME": PROJECT,
                "LATCHKEY_IMAGE": PROJECT,
                "LATCHKEY_REDIS_IMAGE": f"{PROJECT}-redis",
                "LATCHKEY_PROXY_IMAGE": f"{PROJECT}-proxy",
                # Any free ports: all requests are made in containers.
                **{f"{name}_PORT": "0" for name in ("GATEWAY", "APPROVAL", "GRAFANA")},
                "PROMETHEUS_PORT": "0",
                **docker.environ,
            },
            docker.directory,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def down(self) -> None:
        """Remove all containers, networks and volumes of the project."""
        self.docker.run("rm", "--force", CLIENT)
        self.compose("--profile=*", "down", "--volumes", "--timeout=5", "--remove-orphans")

    def compose(self, *arguments: str) -> Done:
        """Run a Compose command."""
        return self.docker.run("compose", *arguments)

    def up(self, *services: str, profile: str = "", environ: dict[str, str] | None = None) -> None:
        """Start services, or all, and wait until they are healthy; raises DockerFailed."""
        chosen = [f"--profile={profile}"] if profile else []
        docker = Docker({**self.docker.environ, **(environ or {})}, self.docker.directory)
        wait = ("up", "--detach", "--wait", f"--wait-timeout={UP_SECONDS}")
        docker.do("compose", *chosen, *wait, *services)

    def container(self, service: str) -> str:
        """Return the id of a service's container."""
        return self.compose("ps", "--all", "--quiet", service).output.strip()

    def inspect(self, service: str, field: str) -> str:
        """Return a field of a service's container, such as `State.Health.Status`."""
        return self.docker.do("inspect", "--format", f"{{{{.{field}}}}}", self.container(service))

    def wait_health(self, service: str, status: str) -> None:
        """Wait until a service is `healthy` or `unhealthy`; raises DockerFailed."""
        field = "State.Health.Status"
        wait_for(
            lambda: self.inspect(service, field) == status, f"{service} is {status}", HEALTH_SECONDS
        )

    def inside(self, service: str, *command: str) -> Done:
        """Run a command in a service's container."""
        return self.compose("exec", "--no-TTY", service, *command)

    def start_client(self) -> None:
        """Start a container of a client, with the gateway token."""
        # Docker takes the value from its own environment: arguments appear in error messages.
        token = "OPENCLAW_GATEWAY_TOKEN"
        network = (f"--network={PROJECT}_front", f"--ip={CLIENT_ADDRESS}")
        self.docker.do(
            *("run", "--detach", f"--name={CLIENT}", *network, "--no-healthcheck"),
            *(f"--env={token}", self.image, "sleep", "1h"),
        )

    def client(self, *command: str) -> Done:
        """Run a command in the client's container."""
        return self.docker.run("exec", CLIENT, *command)

    def device(self, url: str, *options: str) -> Done:
        """Connect the client's device once."""
        state = ("--state", "/tmp/device.json")  # noqa: S108  in a container
        return self.client("python", "-m", "shared.device", *state, *options, url)

    def hold(self, url: str) -> None:
        """Keep the client's device connected, and what it prints in /tmp/held."""
        self.client("rm", "-f", "/tmp/held")  # noqa: S108  in a container
        connect = f"python -u -m shared.device --state /tmp/device.json --hold {url}"
        self.docker.do("exec", "--detach", CLIENT, "sh", "-c", f"{connect} >/tmp/held 2>&1")
        wait_for(lambda: "Holding" in self.held(), "the device is connected")

    def held(self) -> str:
        """Return what the held device has printed."""
        return self.client("cat", "/tmp/held").output  # noqa: S108  in a container

    def as_front_proxy(self, code: str, *arguments: str) -> Done:
        """Run Python at the address of the front proxy."""
        return self._once(code, *arguments, address=FRONT_PROXY_ADDRESS)

    def as_stranger(self, code: str, *arguments: str) -> Done:
        """Run Python at an address that the proxy does not believe."""
        return self._once(code, *arguments, address=STRANGER_ADDRESS)

    def _once(self, code: str, *arguments: str, address: str) -> Done:
        network = (f"--network={PROJECT}_front", f"--ip={address}")
        options = ("run", "--rm", "--no-healthcheck", *network, "--env=APPROVAL_ADMIN_TOKEN")
        return self.docker.run(*options, self.image, "python", "-c", code, *arguments)

    def command(self, *arguments: str) -> Done:
        """Run the `latchkey` command from outside, through the proxy."""
        given = ("--env=APPROVAL_URL=http://proxy:8081", "--env=APPROVAL_ADMIN_TOKEN")
        options = ("run", "--rm", "--no-healthcheck", f"--network={PROJECT}_front", *given)
        return self.docker.run(*options, self.image, "latchkey", *arguments)

    def pending(self) -> list[Any]:
        """Return the pending requests."""
        done = self.command("devices", "list", "--json")
        if done.status != 0:
            raise DockerFailed(f"latchkey devices list ended with {done.status}: {done.output}")
        return list(json.loads(done.output)["pending"])


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Wait until a condition holds; raises DockerFailed."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise DockerFailed(f"not within {seconds:g} s: {what}")
        time.sleep(0.5)
