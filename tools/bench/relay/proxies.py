"""Proxies in front of the upstream: none, HAProxy, nginx or Latchkey, each on its own core."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tools.bench.cpu import pin
from tools.bench.latchkey import ONE_FOR_MANY
from tools.bench.measuring import paired
from tools.bench.subjects import latchkey
from tools.load.client.target import read_target
from tools.load.server.pairing import new_identities
from tools.load.server.processes import cpu_seconds
from tools.support.processes.process_table import descendants
from tools.support.processes.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tools.load.client.devices import Identity
    from tools.load.client.target import Target

DIRECT: Final = "no proxy"
HAPROXY: Final = "HAProxy"
NGINX: Final = "nginx"
LATCHKEY: Final = "Latchkey"
DEVICES: Final = 64
SECRET: Final = "the-upstream-secret-of-the-benchmark"
MEMORY_LIMIT_MB: Final = 4096
"""Of the gateway: most of 500 frames of 1 MB are incomplete at once, in both directions."""
START_SECONDS: Final = 20.0
_PATH: Final = "/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin"
_HAPROXY: Final = """\
global
  maxconn 4096
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout tunnel 1h
frontend gateway
  bind 127.0.0.1:{port}
  default_backend upstream
backend upstream
  server one 127.0.0.1:{upstream}
"""
_NGINX: Final = """\
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {directory}; proxy_temp_path {directory}; fastcgi_temp_path {directory};
  uwsgi_temp_path {directory}; scgi_temp_path {directory};
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://127.0.0.1:{upstream};
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection upgrade;
      proxy_set_header Host $host;
      proxy_read_timeout 1h;
      proxy_send_timeout 1h;
    }}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Relaying:
    """One way to the upstream. `pids` are the proxy's processes; none of them is the upstream."""

    name: str
    target: Target
    identities: Sequence[Identity]
    gateway_token: str = ""
    pids: tuple[int, ...] = ()

    def cpu_seconds(self) -> float:
        """CPU time that the proxy has used so far."""
        return sum(map(cpu_seconds, self.pids))

    def resident_bytes(self) -> int:
        """Resident memory of the proxy."""
        return sum(_resident_bytes(pid) for pid in self.pids)


@contextmanager
def upstream() -> Iterator[int]:
    """Start the upstream; yields its port."""
    port = _free_port()
    with _process([sys.executable, "-m", "tools.bench.relay.upstream", str(port)], port):
        yield port


def direct(port: int) -> Relaying:
    """Return the way without a proxy."""
    return Relaying(DIRECT, _target(port), new_identities(DEVICES, approved=True), "a" * 64)


@contextmanager
def haproxy(directory: Path, upstream_port: int, core: int) -> Iterator[Relaying | None]:
    """Start HAProxy; None if it is not installed."""
    binary = shutil.which("haproxy", path=_PATH)
    if binary is None:
        yield None
        return
    port = _free_port()
    file = directory / "haproxy.cfg"
    file.write_text(_HAPROXY.format(port=port, upstream=upstream_port))
    with _process([binary, "-f", str(file), "-db"], port) as pid:
        yield _pinned(HAPROXY, port, pid, core)


@contextmanager
def nginx(directory: Path, upstream_port: int, core: int) -> Iterator[Relaying | None]:
    """Start nginx with one worker; None if it is not installed."""
    binary = shutil.which("nginx", path=_PATH)
    if binary is None:
        yield None
        return
    port = _free_port()
    file = directory / "nginx.conf"
    file.write_text(_NGINX.format(port=port, upstream=upstream_port, directory=directory))
    command = [binary, "-c", str(file), "-e", str(directory / "error.log")]
    with _process(command, port) as pid:
        yield _pinned(NGINX, port, pid, core)


@contextmanager
def relay(directory: Path, upstream_port: int, core: int) -> Iterator[Relaying]:
    """Start Latchkey before the upstream, with paired devices."""
    upstream_env = {
        "UPSTREAM_URL": f"ws://127.0.0.1:{upstream_port}",
        "UPSTREAM_SECRET": SECRET,
        "GATEWAY_MEMORY_LIMIT_MB": str(MEMORY_LIMIT_MB),
        **ONE_FOR_MANY,
    }
    with Stack(directory, gateways=1, gateway_env=upstream_env) as stack:
        identities = paired(latchkey(stack, ()), DEVICES)
        gateway = stack.gateways[0]
        for pid in (gateway.pid, stack.approvals[0].pid, stack.redis.pid):
            pin(pid, core)
        yield Relaying(
            LATCHKEY, read_target(gateway.ws_url), identities, stack.gateway_token, (gateway.pid,)
        )


def _pinned(name: str, port: int, pid: int, core: int) -> Relaying:
    pids = (pid, *(descendant.pid for descendant in descendants(pid)))
    for each in pids:
        pin(each, core)
    identities = new_identities(DEVICES, approved=True)
    return Relaying(name, _target(port), identities, "a" * 64, pids)


@contextmanager
def _process(command: Sequence[str], port: int) -> Iterator[int]:
    with subprocess.Popen(command) as process:
        try:
            _wait_for(port, command[0])
            yield process.pid
        finally:
            process.terminate()


def _target(port: int) -> Target:
    return read_target(f"ws://127.0.0.1:{port}")


def _resident_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _wait_for(port: int, name: str) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise OSError(f"{name} did not start within {START_SECONDS:g} s")
