"""The ordinary answer, which needs no write, is the one that the general code would give."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from services.approval.domain import policy
from services.approval.requests.admission import Admissions
from shared.rpc.messages import Admitted
from tests.support.approval.devices import Device

if TYPE_CHECKING:
    from shared.rpc.messages import AuthorizeDevice, Position
    from tests.integration.approval.replica import Replica


def admitted(here: Replica) -> float:
    """Return how many admissions were counted."""
    found = here.metrics.registry.get_sample_value(
        "latchkey_approval_questions_total", {"verdict": "admitted"}
    )
    return found or 0.0


def by_the_general_code(
    here: Replica, question: AuthorizeDevice, token: Any, at: Position
) -> bytes:
    """Answer without the shortcut."""
    admissions = here.admissions
    answer = admissions._to_answer(question, policy.Admit(token, None, ""), at)
    return admissions._encode(question, answer)


@pytest.mark.parametrize("address", ["", "203.0.113.9", "2001:db8::1"])
async def test_it_has_the_same_bytes_log_lines_and_counts(
    here: Replica, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scopes = ("operator.read", "operator.write")
    device = Device.new()
    granted = await here.pair(device, *scopes)
    seen: list[Any] = []
    ordinary = Admissions._admit

    def watched(self: Admissions, question: Any, token: Any, at: Position) -> bytes:
        before = admitted(here)
        with capture_logs() as lines:
            answer = ordinary(self, question, token, at)
        counted = admitted(here)
        with capture_logs() as general_lines:
            general = by_the_general_code(here, question, token, at)
        assert answer == general
        assert [list(line.items()) for line in lines] == [
            list(line.items()) for line in general_lines
        ]
        assert counted - before == admitted(here) - counted == 1
        seen.append(lines)
        return answer

    monkeypatch.setattr(Admissions, "_admit", watched)
    for token in ("", granted.device_token):
        answer = await here.answer(device.asks(scopes, token=token, address=address))
        assert isinstance(answer, Admitted)
        assert answer.device_token == granted.device_token
    assert [len(lines) for lines in seen] == [1, 1]
