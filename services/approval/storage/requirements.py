"""What approval needs of Redis, and what it means if that is missing. Pure.

Managed services refuse commands such as CONFIG or WAIT, and choose their own settings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True, slots=True)
class RedisFound:
    """What a check of Redis has found.

    `info` is the reply to INFO, None if it is refused. `appendfsync` is None if CONFIG GET is
    refused. `confirms`: WAIT is permitted. `replicated`: Redis has replicas, or should have some.
    """

    info: Mapping[str, Any] | None
    appendfsync: str | None
    confirms: bool = True
    replicated: bool = False

    @property
    def waits(self) -> bool:
        """Whether a commit waits for the confirmation of a replica."""
        connected = self.info is not None and self.info.get("connected_slaves", 0) > 0
        return self.confirms and (self.replicated or connected)

    def warnings(self) -> tuple[str, ...]:
        """Return a warning, with its remedy, for whatever weakens durability."""
        return (*self._of_disk(), *self._of_memory(), *self._of_replicas())

    def _of_disk(self) -> Iterator[str]:
        if self.info is None:
            yield (
                "INFO is refused, so durability cannot be checked: see to it that appendonly is "
                "on, appendfsync is always and maxmemory-policy is noeviction"
            )
        elif not self.info.get("aof_enabled"):
            yield "appendonly is off: an approval may be lost when Redis restarts"
        elif self.appendfsync is None:
            yield "appendfsync cannot be read (CONFIG GET is refused): see to it that it is always"
        elif self.appendfsync != "always":
            yield (
                f"appendfsync is {self.appendfsync}: the last approvals may be lost when the "
                "machine of Redis fails; set it to always"
            )

    def _of_memory(self) -> Iterator[str]:
        info = self.info or {}
        if info.get("maxmemory") and info.get("maxmemory_policy") != "noeviction":
            yield (
                f"maxmemory-policy is {info.get('maxmemory_policy')}: records may be evicted; "
                "set it to noeviction"
            )

    def _of_replicas(self) -> Iterator[str]:
        if not self.confirms:
            yield (
                "WAIT is refused: if Redis has replicas, a change counts as done before one of "
                "them has it, and a failover may lose it"
            )
        elif self.waits and self.info is not None and "min_slaves_good_slaves" not in self.info:
            yield (
                "min-replicas-to-write is 0: a primary that is cut off from its replicas goes on "
                "taking changes, which a failover then drops; set it to 1"
            )
