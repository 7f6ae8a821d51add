from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.approval.domain.tokens import TokenKeys, draw_request_id, draw_token_id
from shared.protocol.signing import decode_base64
from shared.settings.environment import Secrets

OLD, NEW = "an-old-token-secret-0123456789-0123", "a-new-token-secret-0123456789-0123"
PARTS = ("device", "operator", "token id")


class TestDeriving:
    def test_looks_as_clients_know_it(self) -> None:
        token = TokenKeys(Secrets([OLD])).derive(*PARTS)
        assert re.fullmatch(r"[A-Za-z0-9_-]{43}", token)
        assert len(decode_base64(token) or b"") == 32

    def test_stays_the_same_from_release_to_release(self) -> None:
        """Another derivation would invalidate every paired device's token."""
        token = TokenKeys(Secrets([OLD])).derive("d" * 64, "operator", "0123456789abcdef" * 2)
        assert token == "LiPGNzMyPvcuxxEX2it3JqXyxPvXzT9oBJ3bhjDmxfQ"

    @given(parts=st.lists(st.sampled_from(PARTS), min_size=3, max_size=3))
    def test_a_token_differs_with_each_part(self, parts: list[str]) -> None:
        keys = TokenKeys(Secrets([OLD]))
        assert (keys.derive(*parts) == keys.derive(*PARTS)) == (tuple(parts) == PARTS)

    def test_a_token_differs_with_the_secret(self) -> None:
        derived = {TokenKeys(Secrets([secret])).derive(*PARTS) for secret in (OLD, NEW)}
        assert len(derived) == 2


class TestVerifying:
    def test_the_first_secret_makes_and_each_opens(self) -> None:
        """Several secrets allow changing the secret without an outage."""
        both = TokenKeys(Secrets([NEW, OLD]))
        made = {secret: TokenKeys(Secrets([secret])).derive(*PARTS) for secret in (OLD, NEW)}
        assert both.derive(*PARTS) == made[NEW]
        assert all(both.verify(token, *PARTS) for token in made.values())
        assert not TokenKeys(Secrets([NEW])).verify(made[OLD], *PARTS)

    @pytest.mark.parametrize("change", [str.lower, str.upper, lambda t: t + "=", lambda t: t[:-1]])
    def test_only_as_it_was_written(self, change: object) -> None:
        keys = TokenKeys(Secrets([OLD]))
        token = keys.derive(*PARTS)
        assert callable(change)
        assert keys.verify(token, *PARTS)
        assert not keys.verify(change(token), *PARTS)

    @given(candidate=st.text(st.characters(codec="utf-8"), max_size=60))
    def test_any_other_text_is_refused(self, candidate: str) -> None:
        assert not TokenKeys(Secrets([OLD, NEW])).verify(candidate, *PARTS)


class TestDrawing:
    def test_drawn_ids_have_128_bits(self) -> None:
        assert re.fullmatch(r"[0-9a-f]{32}", draw_token_id())
        assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", draw_request_id())

    @pytest.mark.parametrize("draw", [draw_token_id, draw_request_id])
    def test_drawn_ids_never_repeat(self, draw: object) -> None:
        assert callable(draw)
        assert len({draw() for _ in range(1000)}) == 1000
