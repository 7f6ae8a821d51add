"""Refusals after too many wrong secrets."""

from __future__ import annotations

from typing import Any

import pytest

from shared.device.profile import CLI_3, NODE_HOST
from shared.protocol.refusals import Refusal
from shared.rpc.messages import SHARED_SECRET, LockedOut
from tests.support.attempts import (
    REMOTE,
    after_report,
    alter,
    client_view,
    connect,
    refusal_after,
    refusal_of,
)
from tests.unit.gateway.handshake.refusal_rows import HINT_CLI_REMOTE, NOW, missing, unauthorized


class TestTooManyFailures:
    """During a lock-out a client cannot learn whether a secret is right."""

    LOCKED = LockedOut(NOW, 299_995)

    def row(self) -> tuple[dict[str, Any], int, str]:
        error, code, reason = unauthorized(
            "too many failed authentication attempts (retry later)",
            "AUTH_RATE_LIMITED",
            "rate_limited",
            "wait_then_retry",
        )
        return {**error, "retryable": True, "retryAfterMs": 299_995}, code, reason

    @pytest.mark.parametrize(
        "frame",
        [
            connect(),
            connect(token="wrong"),
            connect(token=None, device_token="d"),
            connect(NODE_HOST),
            connect(CLI_3),
        ],
        ids=["right token", "wrong token", "device token", "node", "protocol 3"],
    )
    def test_a_locked_out_device_is_refused(self, frame: Any) -> None:
        assert client_view(refusal_after(frame, self.LOCKED)) == self.row()

    @pytest.mark.parametrize(
        ("frame", "classes", "right"),
        [
            (connect(key=None), (SHARED_SECRET,), True),
            (connect(key=None, token="wrong"), (SHARED_SECRET,), False),
            (connect(token=None, password="wrong"), (SHARED_SECRET,), False),
            (connect(NODE_HOST, key=None), (SHARED_SECRET,), True),
        ],
        ids=[
            "right token",
            "wrong token",
            "wrong password",
            "right token of a node",
        ],
    )
    def test_a_locked_out_secret_report_is_refused(
        self, frame: Any, classes: tuple[str, ...], *, right: bool
    ) -> None:
        outcome = after_report(frame, REMOTE, self.LOCKED, classes=classes, right=right)
        assert isinstance(outcome, Refusal)
        assert client_view(outcome) == self.row()

    @pytest.mark.parametrize("token", [None, ""], ids=["no auth", "empty token"])
    def test_missing_secrets_are_not_counted(self, token: str | None) -> None:
        assert client_view(refusal_of(connect(token=token))) == missing(HINT_CLI_REMOTE)

    def test_broken_proofs_are_not_counted(self) -> None:
        frame = alter(connect(token="wrong"), lambda p: p["device"].update(signature="bad"))
        error, _, _ = client_view(refusal_of(frame))
        assert error is not None
        assert error["details"]["code"] == "DEVICE_AUTH_SIGNATURE_INVALID"
