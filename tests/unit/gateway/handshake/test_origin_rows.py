"""Refusals for foreign pages, and for browsers that send no Origin."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from shared.device.profile import CLI, CONTROL_UI, NODE_HOST
from tests.support.attempts import BROWSER, REMOTE, client_view, connect, question_of, refusal_of
from tests.unit.gateway.handshake.refusal_rows import row

ORIGIN_MESSAGE = (
    "origin not allowed (open the Control UI from the gateway host or allow it in "
    "GATEWAY_ALLOWED_ORIGINS)"
)


def origin_row(reason: str) -> tuple[dict[str, Any], int, str]:
    return row(ORIGIN_MESSAGE, {"code": "CONTROL_UI_ORIGIN_NOT_ALLOWED", "reason": reason})


class TestOrigin:
    def test_another_origin_is_refused(self) -> None:
        page = structs.replace(REMOTE, origin="https://evil.example")
        for profile in (CONTROL_UI, CLI, NODE_HOST):
            assert client_view(refusal_of(connect(profile), page)) == origin_row(
                "origin not allowed"
            )

    @pytest.mark.parametrize(
        "client_id", ["openclaw-control-ui", "openclaw-browser-copilot", "webchat", "webchat-ui"]
    )
    def test_a_browser_without_an_origin_is_refused(self, client_id: str) -> None:
        frame = connect(replace(CONTROL_UI, client_id=client_id))
        assert client_view(refusal_of(frame)) == origin_row("origin missing or invalid")

    @pytest.mark.parametrize("origin", ["null", "", "ok.example", "file://", "https://"])
    def test_an_unparsable_origin_is_refused(self, origin: str) -> None:
        refusal = refusal_of(connect(CONTROL_UI), structs.replace(REMOTE, origin=origin))
        assert client_view(refusal) == origin_row("origin missing or invalid")

    def test_an_allowed_origin_is_accepted(self) -> None:
        assert question_of(connect(CONTROL_UI), BROWSER).client.id == "openclaw-control-ui"
