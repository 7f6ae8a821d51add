"""The story of `make compose-test`: each step is told, and says whether what happened is right."""

from __future__ import annotations

import re
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tools.images.engine import DockerFailed
from tools.images.private_checkout import build_private_checkout
from tools.images.profiles import PROFILES
from tools.images.stack import CLIENT, CLIENT_ADDRESS, Stack, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tools.images.engine import Docker

PROXY: Final = "ws://proxy:8080"
GATEWAYS: Final = ("gateway-1", "gateway-2", "gateway-3")
APPROVALS: Final = ("approval-1", "approval-2")
REVOKED_SECONDS: Final = 10
_CALLS: Final = """
import http.client, os, sys
for given in sys.argv[1:]:
    token, _, address = given.partition("@")
    connection = http.client.HTTPConnection("proxy", 8081, timeout=20)
    connection.request("GET", "/v1/devices", headers={
        "Authorization": "Bearer " + (os.environ["APPROVAL_ADMIN_TOKEN"] if token == "right" else token),
        "X-Forwarded-For": address,
    })
    answer = connection.getresponse()
    answer.read()
    print(answer.status, end=" ")
"""
"""Calls the HTTP API once for each `token@X-Forwarded-For` and prints the status codes."""
_RECONNECT: Final = """
while [ ! -e /tmp/stop ]; do
  python -m shared.device --state /tmp/device.json ws://proxy:8080 >/tmp/last 2>&1
  echo "$? $(head -n 1 /tmp/last)" >>/tmp/attempts
done
echo done >>/tmp/attempts
"""


@dataclass
class Story:
    """Tells the story and counts what is right and wrong."""

    docker: Docker
    profiles: Sequence[str] = ()
    keep: bool = False
    began: float = field(default_factory=time.monotonic)
    passed: int = 0
    failed: int = 0

    def tell(self) -> int:
        """Tell it all; return the exit status."""
        stack = Stack(self.docker)
        stack.down()  # what an interrupted run left behind
        chapters: list[Callable[[Stack], None]] = [
            self._start,
            self._pairing,
            self._addresses_behind_a_front_proxy,
            self._an_update,
            self._a_stopped_gateway,
            self._without_redis,
            self._a_removed_device,
            self._containers,
            self._private_checkout,
            *(self._profile(name) for name in self.profiles),
            self._stop,
        ]
        try:
            for chapter in chapters:
                chapter(stack)
        except DockerFailed as error:
            self.check("the story goes on", expected="", found=str(error), holds=False)
            print(stack.compose("ps", "--all").output)
        finally:
            if not self.keep:
                stack.down()
        print(f"{self.passed} passed, {self.failed} failed")
        return 1 if self.failed else 0

    def check(self, name: str, expected: str, found: str, *, holds: bool | None = None) -> None:
        """Note whether what was found matches the pattern."""
        right = bool(re.search(expected, found)) if holds is None else holds
        seconds = f"{time.monotonic() - self.began:4.0f} s"
        if right:
            self.passed += 1
            print(f"{seconds}  ok    {name}", flush=True)
        else:
            self.failed += 1
            print(f"{seconds}  FAIL  {name}; expected: {expected}", flush=True)
            print("\n".join(f"          {line}" for line in found.splitlines()[-12:]))
            sys.stdout.flush()

    def _start(self, stack: Stack) -> None:
        stack.docker.do("compose", "build")
        stack.up()
        for service in (*GATEWAYS, *APPROVALS, "redis", "proxy"):
            self.check(
                f"{service} is healthy", "^healthy$", stack.inspect(service, "State.Health.Status")
            )
        stack.start_client()

    def _pairing(self, stack: Stack) -> None:
        self.check("a new device is refused", "pairing required", stack.device(PROXY).output)
        (request,) = stack.pending()
        self.check(
            "approval knows the device's own address", f"^{CLIENT_ADDRESS}$", request["remoteIp"]
        )
        approved = stack.inside(
            "approval-2",
            "latchkey",
            "devices",
            "approve",
            request["requestId"],
            "--yes",
            "--no-wait",
        )
        self.check("approved in an approval's container", "^0$", str(approved.status))
        for gateway in GATEWAYS:
            self.check(
                f"admitted at {gateway}",
                "^Admitted by",
                stack.device(f"ws://{gateway}:18789").output,
            )

    def _addresses_behind_a_front_proxy(self, stack: Stack) -> None:
        """Ten wrong tokens lock out the client that a front proxy names, and nobody else."""
        wrong = [f"wrong-{number}@8.8.8.8, 203.0.113.9" for number in range(10)]
        after = ["right@203.0.113.9", "right@203.0.113.9, 203.0.113.10", "right@nonsense"]
        done = stack.as_front_proxy(_CALLS, *wrong, *after)
        self.check(
            "behind a front proxy, clients have addresses of their own",
            r"^(401 ){10}429 200 200 $",
            done.output,
        )
        done = stack.as_stranger(_CALLS, "right@203.0.113.9")
        self.check("nobody else is believed about addresses", "^200 $", done.output)

    def _an_update(self, stack: Stack) -> None:
        """Replace all services one after the other, while a device connects again and again."""
        before = stack.docker.do("image", "inspect", "--format", "{{.Id}}", stack.image)
        stack.docker.do("compose", "build", "--build-arg=VERSION=next", "approval-1")
        after = stack.docker.do("image", "inspect", "--format", "{{.Id}}", stack.image)
        self.check("there is a new image", "", "", holds=before != after)
        stack.docker.do("exec", "--detach", CLIENT, "sh", "-c", _RECONNECT)
        for service in (*APPROVALS, *GATEWAYS):
            stack.docker.do("compose", "up", "--detach", "--no-deps", "--wait", service)
            self.check(
                f"{service} runs the new image", f"^{after}$", stack.inspect(service, "Image")
            )
        stack.client("touch", "/tmp/stop")  # noqa: S108  in a container
        log = ("cat", "/tmp/attempts")  # noqa: S108  as above
        wait_for(lambda: stack.client(*log).output.endswith("done\n"), "the last attempt has ended")
        attempts = stack.client(*log).output.splitlines()[:-1]
        refused = [line for line in attempts if not line.startswith("0 Admitted by")]
        self.check(
            f"all of {len(attempts)} connects during the update are admitted",
            "^$",
            "\n".join(refused),
        )

    def _a_stopped_gateway(self, stack: Stack) -> None:
        stack.hold("ws://gateway-3:18789")
        stack.compose("stop", "gateway-3")
        wait_for(
            lambda: "Closed" in stack.held() or "1012" in stack.held(), "the device is disconnected"
        )
        self.check("a stopped gateway says 1012", "1012", stack.held())
        self.check("it exits with 0", "^0$", stack.inspect("gateway-3", "State.ExitCode"))
        stack.compose("start", "gateway-3")

    def _without_redis(self, stack: Stack) -> None:
        stack.compose("stop", "redis")
        self.check(
            "without Redis, a device is to try again", "(?i)unavailable", stack.device(PROXY).output
        )
        stack.wait_health("gateway-1", "unhealthy")
        stack.wait_health("approval-1", "unhealthy")
        listed = stack.command("devices", "list")
        self.check("the command says that Redis is down", "(?i)redis", listed.output)
        self.check(
            "and takes approval for what it is",
            "",
            "",
            holds="is not Latchkey" not in listed.output,
        )
        stack.compose("start", "redis")
        stack.wait_health("gateway-1", "healthy")
        stack.compose("kill", "--signal=KILL", "redis")
        stack.compose("start", "redis")
        wait_for(
            lambda: stack.device(PROXY).status == 0,
            "after a kill of Redis, the device is still paired",
        )
        self.check("nothing is lost with Redis killed", "^Admitted by", stack.device(PROXY).output)

    def _a_removed_device(self, stack: Stack) -> None:
        stack.hold(PROXY)
        (device_id,) = set(
            re.findall(r"\b[0-9a-f]{64}\b", stack.command("devices", "list", "--json").output)
        )
        removed = stack.command("devices", "remove", device_id, "--yes")
        self.check("a device is removed", "^0$", str(removed.status))
        wait_for(
            lambda: "4001" in stack.held(), "the removed device is disconnected", REVOKED_SECONDS
        )
        self.check(
            "it is refused at another gateway",
            "pairing required",
            stack.device("ws://gateway-2:18789").output,
        )

    def _containers(self, stack: Stack) -> None:
        wrote = stack.inside("gateway-1", "sh", "-c", "id -u; touch /app/x")
        self.check("nobody is root, and nobody writes", r"^10001\n[\s\S]*Read-only", wrote.output)
        listed = stack.inside("gateway-1", "sh", "-c", "ls /app/.venv/lib/python3*/site-packages")
        self.check(
            "no pip and no setuptools in the image's layer",
            "",
            "",
            holds=not re.search("(?m)^(pip|setuptools)", listed.output),
        )
        fast = "import uvloop, hiredis; print('imported')"
        self.check(
            "uvloop and hiredis",
            "^imported$",
            stack.inside("gateway-1", "python", "-c", fast).output,
        )
        for service in ("gateway-1", "redis", "proxy"):
            label = '{{index .Config.Labels "org.opencontainers.image.title"}}'
            title = stack.docker.do("inspect", "--format", label, stack.container(service))
            self.check(f"{service} has labels", "^Latchkey", title)

    def _private_checkout(self, stack: Stack) -> None:
        for name, output, expected in build_private_checkout(stack):
            self.check(f"built from a checkout with umask 077, {name} starts", expected, output)

    def _profile(self, name: str) -> Callable[[Stack], None]:
        def chapter(stack: Stack) -> None:
            for check, expected, found in PROFILES[name](stack):
                self.check(f"{name}: {check}", expected, found)

        return chapter

    def _stop(self, stack: Stack) -> None:
        stack.docker.run("rm", "--force", CLIENT)
        stack.compose("--profile=*", "stop")
        for service in (*GATEWAYS, *APPROVALS, "redis", "proxy"):
            self.check(f"{service} stops with 0", "^0$", stack.inspect(service, "State.ExitCode"))
