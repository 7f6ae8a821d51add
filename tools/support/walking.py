"""The doctor, as the tests call it: in this process, with short waits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.cli.config import Config
from services.cli.doctor.journey import Finding, State, Wishes
from services.cli.doctor.walk import walk
from shared.device.opening import Timeouts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from services.cli.doctor.cause import Cause

NO_FILE = Path("no-such-file")
PATIENT = Timeouts()
HASTY = replace(PATIENT, open=0.3, challenge=0.3, call=0.3, close=0.3)
"""For what never comes."""


async def findings_of(
    url: str,
    *,
    env: Mapping[str, str] | None = None,
    timeouts: Timeouts = PATIENT,
    now: Callable[[], float] | None = None,
    **wishes: Any,
) -> list[Finding]:
    """Walk, with nothing but these settings around; `wishes` as for Wishes."""
    surroundings = Config({"APPROVAL_URL": "", **(env or {})}, NO_FILE)
    wished = Wishes(timeouts, **wishes)
    return (await walk(url, wished, surroundings, lambda _finding: None, now=now)).findings


async def stopped_by(url: str, cause: Cause, **how: Any) -> Finding:
    """Walk and check that this cause, and nothing else, ends the way; returns the finding."""
    findings = await findings_of(url, **how)
    wrong = [one for one in findings if one.state is State.WRONG]
    assert [one.cause and one.cause.id for one in wrong] == [cause.id], findings
    (finding,) = wrong
    assert finding.found
    assert finding.cure
    assert findings[-1] is finding
    return finding


async def warned_of(url: str, cause: Cause, **how: Any) -> Finding:
    """Walk and check that this cause is warned of; returns the finding."""
    findings = await findings_of(url, **how)
    warned = [one for one in findings if one.cause is cause]
    assert [one.state for one in warned] == [State.WARNING], findings
    return warned[0]
