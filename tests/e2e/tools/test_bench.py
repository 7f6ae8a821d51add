"""The benchmark as people start it, with few and short rounds."""

from __future__ import annotations

import asyncio
import os
import platform
import sys
from typing import TYPE_CHECKING

import pytest

from deploy.local.places import ROOT
from tools.bench.measuring import closed, measure
from tools.bench.plain_proxies import before_bare, proxied
from tools.bench.relay.proxies import HAPROXY, NGINX
from tools.bench.subjects import BARE, bare
from tools.load.plan import Scenario

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 0.3


async def run_bench(*words: str) -> tuple[str, str, int | None]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tools.bench", *words),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(55):
        text, errors = await process.communicate()
    return text.decode(), errors.decode(), process.returncode


async def test_it_compares_latchkey_with_a_bare_server_at_a_rate() -> None:
    words = ["--rounds", "1", "--seconds", str(SECONDS), "--only", "rate", "cores"]
    text, errors, status = await run_bench(*words)
    assert (status, errors) == (0, ""), text
    assert text.startswith(f"CPython {platform.python_version()} (built with PGO: ")
    rows = {line.split(" | ")[0]: line for line in text.splitlines() if line.startswith("| ")}
    ours = rows["| Latchkey"].split(" | ")
    assert 100 < float(ours[1]) < 300
    assert float(ours[3]) > 0
    assert "gateway " in ours[4]
    assert "approval " in ours[4]
    cores = len(os.sched_getaffinity(0))
    assert ("Not measured: this needs at least 3 cores" in text) is (cores < 3)


@pytest.mark.parametrize("proxy", [HAPROXY, NGINX])
def test_a_proxy_before_the_bare_server_passes_every_admission(proxy: str, tmp_path: Path) -> None:
    core = min(os.sched_getaffinity(0))
    plan = closed(Scenario.CLOSED, SECONDS, 8, workers=1)
    with bare(BARE, verifies=False) as server, proxied(tmp_path, server, core) as proxies:
        subject = proxies[before_bare(proxy)]
        if subject is None:
            pytest.skip(f"{proxy} is not installed")
        figures = measure(subject, plan)
    assert figures.wrong == ""
    assert figures.per_second > 0
    assert figures.cpu_us_by_role[proxy] > 0
    assert figures.cpu_us_by_role["bare"] > 0
