"""Check services through `/readyz`."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any, Final

from deploy.local.ports import HOST

TIMEOUT_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class ReadyAnswer:
    """Answer of one process; `reason` is empty if it is ready."""

    ready: bool
    boot_id: str
    reason: str


def ask_ready(
    port: int, *, at_once: int = 1, timeout_seconds: float = TIMEOUT_SECONDS, needs: str = ""
) -> list[ReadyAnswer]:
    """Get `/readyz` on `at_once` parallel connections and return the answers.

    If several processes share the port, each connection reaches any of them. A process counts as
    not ready if its dependency named `needs` is unhealthy.
    """
    asked: list[http.client.HTTPConnection] = []
    answers: list[ReadyAnswer] = []
    try:
        for _ in range(at_once):
            connection = http.client.HTTPConnection(HOST, port, timeout=timeout_seconds)
            asked.append(connection)
            try:
                connection.request("GET", "/readyz", headers={"Connection": "close"})
            except OSError:
                return answers
        for connection in asked:
            try:
                response = connection.getresponse()
                answers.append(_parse(response.status, response.read(), needs))
            except (OSError, http.client.HTTPException):
                continue
    finally:
        for connection in asked:
            connection.close()
    return answers


class ReadyProcesses:
    """Tracks which processes behind one port have reported ready.

    `needs` names a dependency that must be healthy, even if services report ready without it.
    """

    def __init__(self, port: int, count: int, *, needs: str = "") -> None:
        self._port = port
        self._count = count
        self._needs = needs
        self._ready: set[str] = set()

    def trouble(self) -> str:
        """Check again; return why not all are ready, or an empty string."""
        reason = ""
        at_once = 1 if self._count == 1 else 2 * self._count
        for answer in ask_ready(self._port, at_once=at_once, needs=self._needs):
            if answer.ready:
                self._ready.add(answer.boot_id)
            else:
                self._ready.discard(answer.boot_id)
                reason = answer.reason
        if len(self._ready) >= self._count:
            return ""
        return reason or f"{len(self._ready)} of {self._count} answered"


def _parse(status: int, body: bytes, needs: str) -> ReadyAnswer:
    try:
        body_json: Any = json.loads(body)
        boot_id = str(body_json["bootId"])
        ready = status == http.client.OK and body_json["ready"] is True
        reasons = {
            name: f"{name}: {seen['reason']}"
            for name, seen in body_json.get("dependencies", {}).items()
            if not seen["ok"]
        }
    except (ValueError, LookupError, TypeError, AttributeError):
        return ReadyAnswer(ready=False, boot_id="", reason=f"/readyz answered {status}")
    if ready and needs not in reasons:
        return ReadyAnswer(ready=True, boot_id=boot_id, reason="")
    reason = "; ".join(reasons.values()) or "not ready"
    return ReadyAnswer(ready=False, boot_id=boot_id, reason=reason)
