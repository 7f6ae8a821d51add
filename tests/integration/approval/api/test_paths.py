"""No spelling of a path leads to another route or bypasses the token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.integration.approval.operator import BEARER
from tests.integration.approval.replica import ADMIN_TOKEN
from tests.support.approval.devices import Device

if TYPE_CHECKING:
    from tests.integration.approval.operator import Operator
    from tests.integration.approval.replica import Replica

HEADERS: Final = f"Host: x\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\nConnection: close\r\n"
APPROVE: Final = f"POST /v1/requests/a/approve HTTP/1.1\r\n{HEADERS}"
SMUGGLED: Final = f"GET /v1/requests HTTP/1.1\r\n{HEADERS}\r\n"
TRICKS: Final = (
    "//v1/requests",
    "/v1//requests",
    "/v1/requests/",
    "/v1/requests//",
    "/v1/./requests",
    "/v1/../v1/requests",
    "/livez/../v1/requests",
    "/v1/%2e%2e/v1/requests",
    "/%2e/v1/requests",
    "/v1%2frequests",
    "/v1%2Frequests",
    "/v1%5crequests",
    "/v1\\requests",
    "/%76%31%2frequests",
    "/V1/requests",
    "/v1/requests%00",
    "/v1/requests%20",
    "/v1/requests%0d%0aX-Injected:%20yes",
    "/v1/requests;a=b",
    "/v1/requests.json",
    "/v1/requests%3fx",
    "/openapi.json/../v1/requests",
    "/openapi.json/v1/requests",
    "/metrics%2f..%2fv1/requests",
)


@pytest.mark.parametrize("path", TRICKS)
async def test_other_spellings_of_a_path_lead_nowhere(
    here: Replica, operator: Operator, path: str
) -> None:
    await here.request(Device.new().asks())
    for headers in (BEARER, {}):
        reply = await operator.call("GET", path, headers=headers)
        assert reply.status in {400, 404}, reply.text
        assert "pending" not in reply.text
        assert "X-Injected" not in reply.headers


@pytest.mark.parametrize(
    "part",
    [
        *("", ".", "..", "%2e%2e", "%2f", "..%2f..%2fdevices", "{}", "%00", "%0a", "%C3%28"),
        *("a%2fapprove", "%2525", "a%20b", "-a", "a" * 129, "%ff", "%C3%A9", "a%0a", "*"),
    ],
)
async def test_a_request_id_is_one_or_nothing(here: Replica, operator: Operator, part: str) -> None:
    await here.request(Device.new().asks())
    for action in ("approve", "reject"):
        reply = await operator.post(f"/v1/requests/{part}/{action}")
        assert reply.status in {400, 404}
        assert "requestId" not in reply.body
    assert len(await operator.pending_ids()) == 1


@pytest.mark.parametrize("change", ["upper", "blank", "line", "long", "short", "slash"])
async def test_a_device_id_is_one_or_nothing(
    here: Replica, operator: Operator, change: str
) -> None:
    device = Device.new()
    await here.pair(device)
    right = device.device_id
    wrong = {
        "upper": right.upper(),
        "blank": right + "%20",
        "line": right + "%0A",
        "long": right + "0",
        "short": right[:-1],
        "slash": right + "%2F",
    }[change]
    for method in ("GET", "DELETE"):
        assert (await operator.call(method, f"/v1/devices/{wrong}")).status in {400, 404}
    (await operator.get(f"/v1/devices/{right}")).ok()


async def test_an_encoded_id_is_the_same_id(here: Replica, operator: Operator) -> None:
    device = Device.new()
    await here.pair(device)
    encoded = "".join(f"%{ord(character):02x}" for character in device.device_id)
    shown = (await operator.get(f"/v1/devices/{encoded}")).ok()
    assert shown["deviceId"] == device.device_id


class TestMethods:
    @pytest.mark.parametrize(
        "name", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"]
    )
    async def test_a_method_override_header_is_ignored(
        self, here: Replica, operator: Operator, name: str
    ) -> None:
        device = Device.new()
        await here.pair(device)
        path = f"/v1/devices/{device.device_id}"
        for method in ("GET", "POST"):
            reply = await operator.call(
                method, f"{path}?_method=DELETE", headers={**BEARER, name: "DELETE"}
            )
            assert reply.status in {400, 405}
            await operator.call(method, path, headers={**BEARER, name: "DELETE"})
        (await operator.get(path)).ok()

    @pytest.mark.parametrize(
        ("method", "path", "allow"),
        [
            ("POST", "/v1/requests", "GET, HEAD"),
            ("GET", "/v1/requests/a/approve", "POST"),
            ("HEAD", "/v1/requests/a/reject", "POST"),
            ("PUT", "/v1/devices/a", "DELETE, GET, HEAD, PATCH"),
            ("OPTIONS", "/v1/devices/a/tokens/node/rotate", "POST"),
            ("DELETE", "/", "GET, HEAD"),
            ("TRACE", "/v1/audit", "GET, HEAD"),
        ],
    )
    async def test_methods_that_are_not_served_are_refused(
        self, operator: Operator, method: str, path: str, allow: str
    ) -> None:
        reply = await operator.call(method, path)
        assert reply.headers["Allow"] == allow
        if method == "HEAD":
            assert reply.status == 405
        else:
            assert reply.problem(405, "method-not-allowed") == {}

    async def test_head_is_get_without_a_body(self, here: Replica, operator: Operator) -> None:
        device = Device.new()
        await here.pair(device)
        for path in (
            *("/", "/livez", "/readyz", "/openapi.json", "/v1/requests", "/v1/audit"),
            f"/v1/devices/{device.device_id}",
        ):
            got, headed = await operator.get(path), await operator.call("HEAD", path)
            assert (headed.status, headed.text) == (200, "")
            assert headed.headers["Content-Length"] == got.headers["Content-Length"]
        await operator.call("HEAD", "/metrics")


@pytest.mark.parametrize(
    "request_text",
    [
        f"GET v1/requests HTTP/1.1\r\n{HEADERS}\r\n",
        f"GET \\v1\\requests HTTP/1.1\r\n{HEADERS}\r\n",
        f"GET /v1/requests\xff HTTP/1.1\r\n{HEADERS}\r\n",
        f"GET http://[/v1/requests HTTP/1.1\r\n{HEADERS}\r\n",
        f"get /v1/requests HTTP/1.1\r\n{HEADERS}\r\n",
        f"GET /v1/requests HTTP/1.1\r\nHost: y\r\n{HEADERS}\r\n",
        f"GET /v1/requests HTTP/1.1\r\n{HEADERS}Bad Header: x\r\n\r\n",
        f"{APPROVE}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}",
        f"{APPROVE}Content-Length: 0\r\nContent-Length: 50\r\n\r\n{SMUGGLED}",
        f"{APPROVE}Content-Length: -1\r\n\r\n{SMUGGLED}",
        f"{APPROVE}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{SMUGGLED}",
    ],
)
async def test_what_is_no_http_gets_one_refusal(
    here: Replica, operator: Operator, request_text: str
) -> None:
    await here.request(Device.new().asks())
    answer = await operator.raw(request_text)
    assert answer.count(b"HTTP/1.") - answer.count(b"HTTP/1.1'") == 1
    assert answer.split(maxsplit=2)[1] == b"400"
    assert b"pending" not in answer
    assert ADMIN_TOKEN.encode() not in answer
