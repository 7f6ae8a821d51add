"""Health checks get the same answer in an overload as otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
import pytest

from services.gateway.http.overload_health import OverloadHealth
from services.gateway.http.routes import health_requests
from tests.integration.gateway.harness import GatewayHarness

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PATHS = ["/livez", "/healthz", "/health", "/readyz", "/ready"]
HOST = b"Host: a\r\n"


@pytest.fixture
async def harness() -> AsyncIterator[GatewayHarness]:
    async with GatewayHarness() as harness:
        yield harness


@pytest.fixture
def health(harness: GatewayHarness) -> OverloadHealth:
    return OverloadHealth(harness.ops, "/below")


def request(path: str, *, method: str = "GET", headers: bytes = HOST) -> bytes:
    return f"{method} {path} HTTP/1.1\r\n".encode() + headers + b"\r\n"


@pytest.mark.parametrize("path", PATHS)
async def test_the_answer_is_that_of_the_page(
    harness: GatewayHarness, health: OverloadHealth, path: str
) -> None:
    async with aiohttp.ClientSession() as http, http.get(harness.url + path) as page:
        text = await page.read()
    answer = health.answer(request(path))
    assert answer is not None
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ") for line in lines)
    assert status == f"HTTP/1.1 {page.status} {page.reason}"
    assert body == text
    assert headers.pop("Connection") == "close"
    assert all(page.headers[name] == value for name, value in headers.items()), headers


@pytest.mark.parametrize("path", PATHS)
def test_below_a_path_prefix_the_answer_is_the_same(health: OverloadHealth, path: str) -> None:
    assert health.answer(request(f"/below{path}")) == health.answer(request(path)) is not None


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /livez",
        request("/livez")[:-1],
        request("/livez") * 2,
        request("/livez") + b"more",
        request("/livez", method="POST"),
        request("/metrics"),
        request("/livez/x"),
        request("/"),
        b"GET /livez HTTP/1.0\r\n\r\n",
    ],
)
def test_everything_else_is_left_to_others(health: OverloadHealth, sent: bytes) -> None:
    assert health.answer(sent) is None


@pytest.mark.parametrize("path", [*PATHS, "/metrics"])
@pytest.mark.parametrize("prefix", ["", "/below"])
def test_the_kernel_always_lets_health_and_metrics_through(path: str, prefix: str) -> None:
    assert request(prefix + path).startswith(tuple(health_requests(prefix)))
