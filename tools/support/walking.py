"""Runs the doctor for tests: in this process, with short timeouts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.cli.config import Config
from services.cli.doctor.journey import Finding, Options, State
from services.cli.doctor.walk import walk
from shared.device.opening import Timeouts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from services.cli.doctor.cause import Cause

NO_FILE = Path("no-such-file")
PATIENT = Timeouts()
HASTY = replace(PATIENT, open=0.3, challenge=0.3, call=0.3, close=0.3)
"""For responses that never come."""


async def findings_of(
    url: str,
    *,
    env: Mapping[str, str] | None = None,
    timeouts: Timeouts = PATIENT,
    now: Callable[[], float] | None = None,
    **options: Any,
) -> list[Finding]:
    """Run the doctor with only these settings; `options` as for Options."""
    config = Config({"APPROVAL_URL": "", **(env or {})}, NO_FILE)
    wanted = Options(timeouts, **options)
    return (await walk(url, wanted, config, lambda _finding: None, now=now)).findings


async def stopped_by(url: str, cause: Cause, **options: Any) -> Finding:
    """Check that exactly this cause stops the doctor; returns the finding."""
    findings = await findings_of(url, **options)
    wrong = [finding for finding in findings if finding.state is State.WRONG]
    assert [item.cause and item.cause.id for item in wrong] == [cause.id], findings
    (finding,) = wrong
    assert finding.found
    assert finding.cure
    assert findings[-1] is finding
    return finding


async def warned_of(url: str, cause: Cause, **options: Any) -> Finding:
    """Check that the doctor warns of this cause; returns the finding."""
    findings = await findings_of(url, **options)
    warned = [finding for finding in findings if finding.cause is cause]
    assert [item.state for item in warned] == [State.WARNING], findings
    return warned[0]
