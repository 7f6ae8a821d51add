"""`python -m tools.load [SCENARIO] [OPTIONS]`; `--help` lists them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import replace
from enum import IntEnum
from typing import TYPE_CHECKING

import uvloop

from deploy.local.errors import RunError, file_problem
from tools.load.client.dialer import (
    Dialer,
    Unreachable,
    has_sources,
    loopback_sources,
    raise_descriptor_limit,
)
from tools.load.command import read_command
from tools.load.coordinator import Stage
from tools.load.options import UsageError
from tools.load.report.display import Display
from tools.load.report.page import as_page
from tools.load.report.report import make_report
from tools.load.report.text import as_text
from tools.load.scenarios import run
from tools.load.server.approval import Approval, ApprovalError
from tools.load.server.pairing import Caller, PairingError, forgotten, new_identities, pair
from tools.load.server.precheck import require_approval_of
from tools.load.server.subject import NoSystemError, system
from tools.load.workers.processes import WorkersError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tools.load.client.devices import Identity
    from tools.load.plan import Plan
    from tools.load.scenarios import Run
    from tools.load.server.subject import SystemUnderTest


class Exit(IntEnum):
    """Exit status."""

    FINE = 0
    FAILED = 1
    NOT_RUN = 2
    INTERRUPTED = 130


SPARE_FILES = 200
"""Descriptors of a process that are not connections."""
_NOT_RUN = (
    UsageError, NoSystemError, RunError, Unreachable, ApprovalError, PairingError, WorkersError, OSError,
)  # fmt: skip


def main(arguments: Sequence[str]) -> Exit:
    """Run the plan of the command line and report."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    display = Display()
    try:
        plan = read_command(arguments)
        for report_file in filter(None, (plan.json_file, plan.html_file)):
            require_writable(report_file)
        if not plan.sources_given and not has_sources(plan.sources):
            plan = replace(plan, sources=1)
        files = raise_descriptor_limit()
        if plan.connections / plan.workers > files - SPARE_FILES:
            raise NoSystemError(f"a process may open {files} files here: spread them, --workers")
        with system(plan, os.environ) as where:
            recorded = uvloop.run(_on(where, plan, display))
        report = make_report(plan, where, recorded)
        print(as_text(report))
        for file, text in (
            (plan.json_file, report.as_json),
            (plan.html_file, lambda: as_page(report)),
        ):
            if file is not None:
                file.write_text(text())
    except _NOT_RUN as error:
        display.close()
        problem = file_problem(error) if isinstance(error, OSError) else error
        print(f"Not run: {problem}", file=sys.stderr)
        return Exit.NOT_RUN
    except (KeyboardInterrupt, asyncio.CancelledError):
        display.close()
        print("Interrupted.", file=sys.stderr)
        return Exit.INTERRUPTED
    return Exit.FAILED if report.findings else Exit.FINE


def require_writable(file: Path) -> None:
    """Return where a report will be written; checked before the load rather than after it."""
    new = not file.exists()
    file.open("a").close()
    if new:
        file.unlink()


async def _on(where: SystemUnderTest, plan: Plan, display: Display) -> Run:
    """Pair devices if necessary, run, and clean up a system that is not temporary."""
    new = new_identities(plan.devices)
    async with Approval(where.approval_url, where.admin_token) as approval:
        stage = Stage(plan, where, display, approval)
        if where.is_ours:
            return await run(stage, await _paired(stage, approval, new))
        await require_approval_of(where.target, approval)
        async with forgotten(approval, new):
            return await run(stage, await _paired(stage, approval, new))


async def _paired(stage: Stage, approval: Approval, new: Sequence[Identity]) -> Sequence[Identity]:
    plan, where = stage.plan, stage.system
    if not plan.approved:
        return new
    sources = loopback_sources(plan.sources) if where.target.is_loopback else []
    dialer = Dialer(where.target, sources)
    await dialer.prepare()
    return await pair(
        new,
        caller=Caller(where.target, dialer, plan.timeout),
        approval=approval,
        gateway_token=where.gateway_token,
        shared_token=plan.shared_token,
        done=lambda count: stage.display.count("devices paired", count, len(new)),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
