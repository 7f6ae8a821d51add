"""Checks of the Compose profiles: TLS, monitoring, and an OpenClaw behind the gateways."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from tools.images.engine import DockerFailed
from tools.images.stack import STRANGER_ADDRESS, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tools.images.stack import Stack

Check = tuple[str, str, str]
"""What is checked, the expected pattern and what was found."""

_OVER_TLS: Final = """
import http.client, os, ssl, socket
context = ssl._create_unverified_context()
def call(token):
    connection = http.client.HTTPSConnection("caddy", 443, context=context, timeout=20)
    plain = socket.create_connection(("caddy", 443), 20)
    connection.sock = context.wrap_socket(plain, server_hostname="approval.localhost")
    connection.request("GET", "/v1/devices", headers={
        "Host": "approval.localhost", "Authorization": "Bearer " + token,
        "X-Forwarded-For": "203.0.113.77",
    })
    return connection.getresponse().status
print(*[call(f"wrong-{number}") for number in range(10)], call(os.environ["APPROVAL_ADMIN_TOKEN"]))
"""
_TARGETS: Final = """
import json, urllib.request
answer = json.load(urllib.request.urlopen("http://prometheus:9090/api/v1/targets"))
print(*sorted(t["labels"]["job"] + ":" + t["health"] for t in answer["data"]["activeTargets"]))
"""
_DASHBOARDS: Final = """
import json, urllib.request
print([found["title"] for found in json.load(urllib.request.urlopen("http://grafana:3000/api/search?type=dash-db"))])
"""


def tls(stack: Stack) -> Iterator[Check]:
    """Check that clients of Caddy have addresses of their own."""
    stack.docker.do("compose", "--profile=tls", "build", "caddy")
    stack.up("caddy", profile="tls")
    locked = stack.as_stranger(_OVER_TLS)
    yield "ten wrong tokens lock out their client", r"^(401 ){10}429$", locked.output.strip()
    listed = stack.command("lockouts", "list").output
    yield "it is named by Caddy, and not by itself", STRANGER_ADDRESS.replace(".", r"\."), listed
    yield "and nobody else", "^0$", str(stack.command("devices", "list").status)
    stack.compose("--profile=tls", "stop", "caddy")
    yield "Caddy stops with 0", "^0$", stack.inspect("caddy", "State.ExitCode")


def monitoring(stack: Stack) -> Iterator[Check]:
    """Check that Prometheus reaches every replica, and that Grafana shows the dashboard."""
    stack.docker.do("compose", "--profile=monitoring", "build", "prometheus", "grafana")
    stack.up("prometheus", "grafana", profile="monitoring")
    expected = " ".join(["latchkey-approval:up"] * 2 + ["latchkey-gateway:up"] * 3)

    def targets() -> str:
        return stack.client("python", "-c", _TARGETS).output.strip()

    wait_for(lambda: targets() == expected, "Prometheus scrapes every replica")
    yield "every replica is scraped", f"^{expected}$", targets()
    yield "the dashboard is there", "Latchkey", stack.client("python", "-c", _DASHBOARDS).output


def openclaw(stack: Stack) -> Iterator[Check]:
    """Check that the gateways reach an OpenClaw that is configured as docs/openclaw.md says."""
    options = ("--origin", "http://127.0.0.1:18789", "--replicas", "172.30.19.0/24")
    config = stack.docker.do(
        *("run", "--rm", "--no-healthcheck", "--env=UPSTREAM_SECRET", stack.image),
        *("latchkey", "upstream", "config", "--json", *options),
    )
    json.loads(config)
    write = "mkdir -p ~/.openclaw && cat > ~/.openclaw/openclaw.json"
    run = ("--profile=openclaw", "run", "--rm", "--no-TTY", "--entrypoint=sh", "openclaw")
    done = stack.docker.run("compose", *run, "-c", write, given=config)
    if done.status != 0:
        raise DockerFailed(f"OpenClaw's configuration was not written: {done.output}")
    upstream = {"UPSTREAM_URL": "ws://openclaw:18789"}
    stack.up("openclaw", profile="openclaw", environ=upstream)
    stack.up("gateway-1", "gateway-2", "gateway-3", environ=upstream)
    wait_for(lambda: stack.command("upstream", "check").status == 0, "the gateways reach OpenClaw")
    checked = stack.command("upstream", "check")
    yield "every gateway reaches it, and its configuration is right", "^0$", str(checked.status)
    for gateway in ("gateway-1", "gateway-2", "gateway-3"):
        connected = stack.device(f"ws://{gateway}:18789")
        yield (
            f"a device is connected to it by {gateway}",
            "^Admitted, and connected to OpenClaw",
            connected.output,
        )


PROFILES: Final[dict[str, Callable[[Stack], Iterator[Check]]]] = {
    "tls": tls,
    "monitoring": monitoring,
    "openclaw": openclaw,
}
