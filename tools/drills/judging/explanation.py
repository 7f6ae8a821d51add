"""The explanation of a broken promise: the promise, the device, the replica and the events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tools.drills.judging.judge import Violation
    from tools.drills.judging.observed import Observed

LINES_LIMIT: Final = 60


def explain(seen: Observed, violation: Violation) -> str:
    """Return the explanation as lines of text, with times in seconds from the start of the fault."""
    who = f", device {violation.device}" if violation.device else ""
    where = f", {violation.replica}" if violation.replica else ""
    of = f" of {seen.case}" if seen.case else ""
    when = "" if violation.at is None else f", at {violation.at - seen.began:+.2f} s"
    events = sorted(_events(seen, violation.device))
    shown = [f"  {at - seen.began:+8.2f}  {text}" for at, text in events[:LINES_LIMIT]]
    if len(events) > LINES_LIMIT:
        shown.append(f"  ... and {len(events) - LINES_LIMIT} more")
    return "\n".join(
        [
            f'VIOLATED: "{violation.promise}" in "{seen.fault}"{of}, round {seen.round}',
            f"  {violation.text}{who}{where}{when}",
            *shown,
        ]
    )


def _events(seen: Observed, device: str) -> Iterator[tuple[float, str]]:
    for mark in seen.marks:
        yield mark.at, mark.text
    for attempt in seen.attempts:
        if attempt.device == device:
            result = f"refused: {attempt.why}" if attempt.why else "admitted"
            yield (
                attempt.at,
                f"connect begun at {attempt.began - seen.began:+.2f}: {result} ({attempt.replica})",
            )
    for approval in seen.approvals:
        if approval.device == device:
            yield approval.at, f"request {approval.request_id} is approved: {approval.status}"
    of_revoked = seen.revoke.sessions if seen.revoke else []
    for session in (*seen.sessions, *of_revoked):
        if session.device == device:
            yield session.opened, f"session opened ({session.replica})"
            if session.served:
                yield session.served, f"served for the last time ({session.replica})"
            if session.closed is not None:
                yield session.closed, f"session closed with {session.code} ({session.replica})"
