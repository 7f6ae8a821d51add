"""Warnings about Redis settings that may lose or evict records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def durability_warnings(info: Mapping[str, Any], appendfsync: str | None) -> tuple[str, ...]:
    """Return a warning, with its remedy, for each setting that weakens durability.

    `info` is the reply to INFO; `appendfsync` is None if CONFIG GET is not permitted.
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
