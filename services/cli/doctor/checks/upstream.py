"""What a gateway's `/readyz` says of the OpenClaw gateway behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.cli.doctor import upstream_causes

if TYPE_CHECKING:
    from services.approval.api.public import Ready
    from services.cli.doctor.cause import Cause


def warnings_of_upstream(ready: Ready) -> list[tuple[Cause, str]]:
    """Return what is wrong with a gateway's upstream, and how the gateway says it."""
    seen = (ready.dependencies or {}).get("upstream")
    if seen is None:
        return []
    if not seen.ok:
        return [(upstream_causes.UNREACHABLE, seen.reason)]
    return [
        (upstream_causes.BY_ID.get(warning, upstream_causes.REFUSES), seen.reason)
        for warning in seen.warnings or ()
    ]
