"""Device tokens on the WebSocket of a gateway that passes HTTP on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from services.gateway.handshake.handshake import Handshake
from services.gateway.handshake.outcome import Accepted
from shared.device.profile import CLI, CLI_3
from shared.device_tokens import owner_and_token, with_device_id
from shared.protocol.signing import encode_base64
from shared.rpc.messages import Admitted, AuthorizeDevice, Position
from tests.support import attempts

if TYPE_CHECKING:
    from shared.device.profile import Profile

TOKEN = encode_base64(b"m" * 32)
DEVICE_ID = attempts.KEY.device_id


@pytest.mark.parametrize("profile", [CLI, CLI_3])
@pytest.mark.parametrize("names_device", [True, False])
def test_only_a_gateway_that_passes_http_on_names_the_device(
    profile: Profile, *, names_device: bool
) -> None:
    rules = replace(attempts.RULES, names_device_in_tokens=names_device)
    handshake = Handshake("boot:1", attempts.NONCE, attempts.REMOTE, rules)
    frame = attempts.to_bytes(attempts.connect(profile))
    assert isinstance(handshake.on_frame(frame, now_ms=attempts.NOW_MS), AuthorizeDevice)
    welcome = handshake.on_answer(Admitted(Position(1, "t"), TOKEN, [], 1))
    assert isinstance(welcome, Accepted)
    found = owner_and_token(welcome.grant.device_token or "")
    assert found == ((DEVICE_ID, TOKEN) if names_device else None)


@pytest.mark.parametrize("text", [TOKEN, with_device_id(TOKEN, DEVICE_ID)])
@pytest.mark.parametrize("field", ["device_token", "token"])
def test_approval_is_asked_about_the_derived_token_however_it_comes(text: str, field: str) -> None:
    secrets = {"token": None, field: text}
    question = attempts.question_of(attempts.connect(CLI, **secrets))  # type: ignore[arg-type]
    assert question.token_candidate == TOKEN


def test_a_token_that_names_another_device_is_asked_about_as_it_is() -> None:
    text = with_device_id(TOKEN, "ab" * 32)
    assert (
        attempts.question_of(attempts.connect(token=None, device_token=text)).token_candidate
        == text
    )
