"""Readiness: the dependencies of a service, each with a reason when it is unavailable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True)
class Health:
    """The health of one dependency; `reason` describes it in either case.

    One that is not `needed` is reported, and does not make the service unready.
    """

    ok: bool
    reason: str
    warnings: tuple[str, ...] = ()
    needed: bool = True


class Readiness:
    """Checks every dependency on request."""

    def __init__(self, boot_id: str, checks: Mapping[str, Callable[[], Health]]) -> None:
        self._boot_id = boot_id
        self._checks = dict(checks)

    def ready(self) -> bool:
        """Return whether all needed dependencies are available."""
        return all(seen.ok or not seen.needed for seen in self._seen().values())

    def report(
        self, *, uptime_ms: int, loop_delay_ms: float, detailed: bool
    ) -> tuple[int, dict[str, Any]]:
        """Return HTTP status and body of `/readyz`; without `detailed` only the overall result."""
        health = self._seen()
        failing = [name for name, seen in health.items() if seen.needed and not seen.ok]
        body: dict[str, Any] = {"ready": not failing, "bootId": self._boot_id}
        if detailed:
            body |= {
                "failing": failing,
                "uptimeMs": uptime_ms,
                "eventLoop": {"delayMs": round(loop_delay_ms, 1)},
                "dependencies": {
                    name: {
                        "ok": seen.ok,
                        "reason": seen.reason,
                        **({"warnings": list(seen.warnings)} if seen.warnings else {}),
                    }
                    for name, seen in health.items()
                },
            }
        return (503 if failing else 200), body

    def _seen(self) -> dict[str, Health]:
        return {name: check() for name, check in self._checks.items()}
