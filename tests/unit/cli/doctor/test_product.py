"""Which product answers, determined from recorded answers of real ones."""

from __future__ import annotations

import pytest

from services.cli.doctor import product
from services.cli.doctor.product import Kind
from tests.support.stubs.openclaw import RELEASES, Replica

LATCHKEY_READY = b'{"ready":true,"bootId":"5562f03630bf"}'


@pytest.mark.parametrize("release", RELEASES)
class TestOpenClaw:
    def test_openclaw_is_known_by_its_pages(self, release: str) -> None:
        pages = Replica(release).recorded["pages"]
        assert product.openclaw_readiness(pages["/readyz"]["body"].encode()) is True
        assert product.is_openclaw_live(pages["/healthz"]["body"].encode())

    def test_openclaw_is_known_by_its_hello_with_its_version(self, release: str) -> None:
        hello = Replica(release).recorded["connects"]["hello"]["payload"]
        assert product.of_hello(hello) == product.Product(Kind.OPENCLAW, release)


def test_current_releases_are_known_by_page_and_challenge() -> None:
    recorded = Replica("2026.9.6").recorded
    assert product.version_of_page(recorded["pages"]["/"]["body"].encode()) == "2026.9.6"
    assert product.of_challenge(recorded["challenge"]["payload"]).kind is Kind.OPENCLAW


def test_one_that_is_not_ready_is_known_too() -> None:
    assert product.openclaw_readiness(b'{"ready":false}') is False


@pytest.mark.parametrize("body", [LATCHKEY_READY, b"", b"hello", b"[]", b'{"ready":"yes"}'])
def test_what_else_answers_is_not_openclaw(body: bytes) -> None:
    assert product.openclaw_readiness(body) is None
    assert not product.is_openclaw_live(body)


@pytest.mark.parametrize(
    "hello",
    [
        {},
        {"server": None},
        {"server": {"version": "0.1.0", "connId": "5562f03630bf:7"}},
        {"server": {"version": "2026.9.6", "connId": "5562f03630bf:7"}},
        {"server": {"version": 4, "connId": 5}},
    ],
)
def test_latchkeys_hello_and_broken_ones_are_not_openclaws(hello: dict[str, object]) -> None:
    assert product.of_hello(hello).kind is Kind.UNKNOWN
