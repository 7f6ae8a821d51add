from __future__ import annotations

import asyncio
import gzip
import time
from typing import TYPE_CHECKING, Any, Final

import pytest
from structlog.testing import capture_logs

from services.approval.api.calls import BODY_LIMIT_BYTES
from services.approval.registry.registry import Registry
from tests.integration.approval.operator import BEARER, Operator
from tests.integration.approval.replica import replica
from tests.support.approval.devices import Device

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.approval.replica import Replica
    from tools.support.processes.redis import RedisServer

JSON = {**BEARER, "Content-Type": "application/json"}
DEVICE = "0" * 64
RENAME = f"/v1/devices/{DEVICE}"


class TestBodies:
    @pytest.mark.parametrize(
        "body",
        [
            *(b"{", b"nul", b"[]", b"5", b'"a"', b"null", b"\xef\xbb\xbf{}", b"{}{}", b"\x00"),
            *(b"\xff", b'{"label":"\xff"}', b'{"\xff":1}', b'{"label":"\\ud800"}', b"'{}'"),
            *(b'{"label":' + b"[" * 30_000, b'{"x":' * 10_000, b'{"label":NaN}'),
            *(b'{"__proto__":{"label":"a"}}', b'{"Label":"a"}', b'{"label":"a","label ":"b"}'),
        ],
    )
    async def test_a_malformed_body_is_refused(self, operator: Operator, body: bytes) -> None:
        reply = await operator.call("PATCH", RENAME, data=body, headers=JSON)
        assert reply.problem(400, "malformed") == {"deviceId": DEVICE}
        assert len(reply.body["detail"]) <= 300

    async def test_a_field_that_cannot_be_printed_is_named_printably(
        self, operator: Operator
    ) -> None:
        reply = await operator.call("PATCH", RENAME, json={"label": "a", "\x1b[2J\u202e": "b"})
        reply.problem(400, "malformed")
        assert reply.body["detail"].isprintable()

    @pytest.mark.parametrize("act", ["approve", "reject"])
    async def test_calls_without_a_body_take_an_empty_object(
        self, operator: Operator, act: str
    ) -> None:
        path = f"/v1/requests/none/{act}"
        for body in (b"", b"{}", b" {} "):
            reply = await operator.call("POST", path, data=body, headers=JSON)
            assert reply.problem(404, "unknown-request") == {"requestId": "none"}
        reply = await operator.call("POST", path, data=b'{"scopes":[]}', headers=JSON)
        assert "`scopes`" in reply.body["detail"]

    @pytest.mark.parametrize(
        "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
    )
    async def test_a_body_of_another_content_type_is_refused(
        self, operator: Operator, kind: str
    ) -> None:
        headers = {**BEARER, "Content-Type": kind}
        reply = await operator.call("PATCH", RENAME, data=b'{"label":"a"}', headers=headers)
        assert reply.problem(415, "media-type") == {"deviceId": DEVICE}

    @pytest.mark.parametrize("chunked", [True, False])
    async def test_a_body_that_is_too_large_is_refused(
        self, operator: Operator, *, chunked: bool
    ) -> None:
        async def chunks(size: int) -> AsyncIterator[bytes]:
            for _ in range(size // 1024):
                yield b" " * 1024
            yield b" " * (size % 1024)

        for size, status, kind in (
            (BODY_LIMIT_BYTES, 400, "malformed"),
            (BODY_LIMIT_BYTES + 1, 413, "too-large"),
        ):
            data = chunks(size) if chunked else b" " * size
            reply = await operator.call("PATCH", RENAME, data=data, headers=JSON)
            assert reply.problem(status, kind) == {"deviceId": DEVICE}

    async def test_a_body_that_grows_when_unpacked(self, operator: Operator) -> None:
        packed = gzip.compress(b" " * 50_000_000)
        assert len(packed) < BODY_LIMIT_BYTES
        headers = {**JSON, "Content-Encoding": "gzip"}
        reply = await operator.call("PATCH", RENAME, data=packed, headers=headers)
        assert reply.problem(413, "too-large") == {"deviceId": DEVICE}

    async def test_a_body_that_cannot_be_unpacked(self, operator: Operator) -> None:
        headers = {**JSON, "Content-Encoding": "gzip"}
        reply = await operator.call("PATCH", RENAME, data=b"abc", headers=headers)
        assert reply.problem(400, "malformed") == {"deviceId": DEVICE}

    async def test_the_last_of_two_equal_fields_wins(
        self, here: Replica, operator: Operator
    ) -> None:
        """As everywhere else in the project: JSON is parsed once."""
        device = Device.new()
        await here.pair(device)
        body = b'{"label":"a","label":"b"}'
        reply = await operator.call(
            "PATCH", f"/v1/devices/{device.device_id}", data=body, headers=JSON
        )
        assert reply.ok()["label"] == "b"


class TestQueries:
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/v1/requests"),
            ("GET", RENAME),
            ("DELETE", RENAME),
            ("POST", "/v1/requests/a/approve"),
        ],
    )
    async def test_what_is_not_known_is_refused(
        self, operator: Operator, method: str, path: str
    ) -> None:
        reply = await operator.call(method, f"{path}?force=true")
        reply.problem(400, "malformed")
        assert "`force`" in reply.body["detail"]

    async def test_public_pages_do_not_mind(self, operator: Operator) -> None:
        for path in ("/livez", "/readyz", "/metrics", "/openapi.json", "/"):
            assert (await operator.call("GET", f"{path}?a=1&a=2", headers={})).status == 200


class TestUnavailable:
    """Redis does not answer: the outcome is unknown."""

    CALLS: Final[tuple[tuple[str, str, Any], ...]] = (
        ("GET", "/v1/requests", None),
        ("GET", "/v1/devices", None),
        ("GET", RENAME, None),
        ("GET", "/v1/audit", None),
        ("POST", "/v1/requests/a/approve", None),
        ("POST", "/v1/requests/a/reject", None),
        ("PATCH", RENAME, {"label": "a"}),
        ("DELETE", RENAME, None),
        ("POST", f"{RENAME}/tokens/node/rotate", {}),
        ("POST", f"{RENAME}/tokens/node/revoke", {}),
    )

    async def test_calls_are_unavailable_when_redis_is_gone(
        self, operator: Operator, redis_server: RedisServer
    ) -> None:
        redis_server.kill9()
        with capture_logs() as lines:
            for method, path, body in self.CALLS:
                reply = await operator.call(method, path, json=body)
                reply.problem(503, "store-unavailable")
                assert int(reply.headers["Retry-After"]) > 0
                assert "unknown" in reply.body["title"]
                assert "may or may not have been done" in reply.body["detail"]
                assert "127.0.0.1" not in reply.text
                assert str(redis_server.port) not in reply.text
        assert sum(line["event"] == "store.unavailable" for line in lines) == len(self.CALLS)
        redis_server.start()
        (await operator.get("/v1/requests")).ok()

    async def test_a_call_during_a_hang_of_redis_has_an_unknown_outcome(
        self, here: Replica, operator: Operator, redis_server: RedisServer
    ) -> None:
        """A hanging Redis may still commit: the outcome is unknown, and a retry shows it."""
        asked = await here.request(Device.new().asks())
        redis_server.pause()
        began = time.monotonic()
        reply = await operator.approve(asked.request_id)
        assert time.monotonic() - began < 5
        assert reply.problem(503, "store-unavailable") == {"requestId": asked.request_id}
        redis_server.resume()
        (await operator.approve(asked.request_id)).ok()
        actions = [entry["action"] for entry in await operator.audit()]
        assert actions == ["requested", "approved"]

    async def test_beside_it_the_pages_stand(
        self, operator: Operator, redis_server: RedisServer
    ) -> None:
        redis_server.kill9()
        for path in ("/livez", "/metrics", "/openapi.json", "/"):
            assert (await operator.get(path)).status == 200


class _Broken(Registry):
    """A registry with a bug."""

    def __init__(self) -> None:
        """Create a registry that needs nothing."""

    async def pending(self, caller: object) -> Any:
        """Fail with a message that no client may see."""
        raise RuntimeError("the inside of the house")


class TestBugs:
    async def test_a_bug_is_logged_and_not_revealed(self, redis_server: RedisServer) -> None:
        url = redis_server.approval_url
        async with replica(url, registry=_Broken()) as server, Operator(server) as operator:
            with capture_logs() as lines:
                reply = await operator.get("/v1/requests")
            assert reply.problem(500, "internal") == {}
            assert "house" not in reply.text
            (line,) = (line for line in lines if line["event"] == "operator.call-failed")
            assert line["exc_info"]
            text = (await operator.get("/metrics")).text
            assert 'http_calls_total{operation="listRequests",status="500"} 1.0' in text


async def test_a_client_that_disconnects_midway_harms_no_other(operator: Operator) -> None:
    with capture_logs() as lines:
        for _ in range(5):
            _, writer = await asyncio.open_connection("127.0.0.1", operator.url.port)
            writer.write(
                f"PATCH {RENAME} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                f"Authorization: {BEARER['Authorization']}\r\nContent-Length: 50\r\n\r\n{{".encode()
            )
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        (await operator.get("/v1/requests")).ok()
        await asyncio.sleep(0.05)
    assert not [line for line in lines if line["event"] == "operator.call-failed"]
