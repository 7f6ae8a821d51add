"""What Redis says of itself that may lose or evict records: warnings for operators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def durability_warnings(info: Mapping[str, Any], appendfsync: str | None) -> tuple[str, ...]:
    """Return what is less than Latchkey promises, each with what to do.

    `info` is INFO's answer; `appendfsync` is the setting, None where it may not be read.
    """
    warnings = []
    if not info.get("aof_enabled"):
        warnings.append("appendonly is off: an approval may be lost when Redis restarts")
    elif appendfsync is None:
        warnings.append(
            "appendfsync cannot be read (CONFIG GET is refused): see to it that it is always"
        )
    elif appendfsync != "always":
        warnings.append(
            f"appendfsync is {appendfsync}: the last approvals may be lost when the machine of "
            "Redis fails; set it to always"
        )
    if info.get("maxmemory") and info.get("maxmemory_policy") != "noeviction":
        warnings.append(
            f"maxmemory-policy is {info.get('maxmemory_policy')}: records may be evicted; "
            "set it to noeviction"
        )
    return tuple(warnings)
