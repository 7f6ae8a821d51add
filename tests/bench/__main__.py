"""`make bench`: admissions beside a bare aiohttp WebSocket server, alternating in one run.

Redis, approval and the gateway share one core, the load has another. Ratios of one run are the
result: machines differ, and so do their hours.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from shared.device.identity import DeviceKey
from tests.bench.load import Load
from tests.bench.pairing import pair_all
from tests.support.process_table import descendants
from tests.support.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Sequence

DEVICES: Final = 64
TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Subject:
    """Something to measure: its port, and the processes that do its work."""

    name: str
    port: int
    pids: tuple[int, ...]

    def cpu_seconds(self) -> float:
        """CPU that its processes have used so far."""
        return sum(_cpu_seconds(pid) for pid in self.pids)


@dataclass(frozen=True, slots=True)
class Round:
    """One measurement."""

    per_second: float
    cpu_us: float
    p50_ms: float
    p99_ms: float
    load_busy: float
    others: str


def main() -> None:
    """Measure and print."""
    given = _arguments()
    cores = sorted(os.sched_getaffinity(0))
    server_core, load_core = cores[0], cores[-1]
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        latchkey = stack.enter_context(
            Stack(directory, approvals=1, gateways=1, env={"LOG_LEVEL": given.log_level})
        )
        keys = [DeviceKey.generate() for _ in range(DEVICES)]
        pair_all(latchkey, keys)
        bare_port = _free_port()
        bare = stack.enter_context(
            subprocess.Popen([sys.executable, "-m", "tests.bench.bare", str(bare_port)])
        )
        stack.callback(bare.kill)
        _wait_for(bare_port)
        pids = [latchkey.redis.pid, *(one.pid for one in latchkey.services)]
        subjects = [
            Subject("bare aiohttp", bare_port, (bare.pid,)),
            Subject("latchkey", latchkey.gateways[0].port, _with_descendants(pids)),
        ]
        for subject in subjects:
            for pid in subject.pids:
                os.sched_setaffinity(pid, {server_core})
        os.sched_setaffinity(0, {load_core})
        for in_flight in given.in_flight:
            rounds: dict[str, list[Round]] = {subject.name: [] for subject in subjects}
            for subject in subjects:
                _measure(subject, keys, latchkey.gateway_token, in_flight, 1.0)
            for _ in range(given.rounds):
                for subject in subjects:
                    rounds[subject.name].append(
                        _measure(subject, keys, latchkey.gateway_token, in_flight, given.seconds)
                    )
            _print(rounds, in_flight, one_core=server_core == load_core)


def _measure(
    subject: Subject, keys: Sequence[DeviceKey], token: str, in_flight: int, seconds: float
) -> Round:
    load = Load(subject.port, keys, token, in_flight=in_flight, sources=max(16, in_flight // 8))
    cpu, own = subject.cpu_seconds(), time.process_time()
    result = load.run(seconds)
    cpu, own = subject.cpu_seconds() - cpu, time.process_time() - own
    latencies = sorted(result.latencies) or [0.0]
    return Round(
        per_second=result.per_second,
        cpu_us=cpu / max(1, result.admitted) * 1e6,
        p50_ms=statistics.median(latencies) * 1e3,
        p99_ms=latencies[int(len(latencies) * 0.99)] * 1e3,
        load_busy=own / result.seconds,
        others=", ".join(f"{count} {why}" for why, count in result.others.items()),
    )


def _print(rounds: dict[str, list[Round]], in_flight: int, *, one_core: bool) -> None:
    columns = "{:14}{:>26}{:>24}{:>9}{:>9}{:>7}  {}"
    print(f"\n{in_flight} handshakes in flight: median (least to most) of the rounds")
    print(columns.format("", "admissions/s", "CPU us each", "p50 ms", "p99 ms", "load", "others"))
    for name, found in rounds.items():
        print(
            columns.format(
                name,
                _spread([one.per_second for one in found]),
                _spread([one.cpu_us for one in found]),
                f"{statistics.median(one.p50_ms for one in found):.1f}",
                f"{statistics.median(one.p99_ms for one in found):.1f}",
                f"{statistics.median(one.load_busy for one in found):.0%}",
                "; ".join(one.others for one in found if one.others) or "none",
            )
        )
    bare, ours = rounds.values()
    pairs = list(zip(ours, bare, strict=True))
    print(
        columns.format(
            "ratio",
            f"{statistics.median(a.per_second / b.per_second for a, b in pairs):.2f}",
            f"{statistics.median(a.cpu_us / b.cpu_us for a, b in pairs):.2f}",
            "",
            "",
            "",
            "",
        )
    )
    if one_core:
        print("Load and servers shared one core: read only the ratio of CPU.")


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.0f} ({min(values):.0f} to {max(values):.0f})"


def _with_descendants(pids: Sequence[int]) -> tuple[int, ...]:
    found = set(pids)
    for pid in pids:
        found |= {process.pid for process in descendants(pid)}
    return tuple(sorted(found))


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _wait_for(port: int) -> None:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    sys.exit("the bare server did not start")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a round")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each, alternating")
    parser.add_argument(
        "--in-flight", type=int, nargs="+", default=[64], help="handshakes at a time"
    )
    parser.add_argument("--log-level", default="info", help="the services' LOG_LEVEL")
    return parser.parse_args()


if __name__ == "__main__":
    main()
