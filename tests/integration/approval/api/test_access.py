from __future__ import annotations

import itertools
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from services.approval.api.operations import OPERATIONS
from services.approval.api.public import PAGES
from services.approval.api.static import page_files
from services.approval.domain.authorization import OPERATOR
from tests.integration.approval.operator import BEARER, Operator
from tests.integration.approval.replica import (
    ADMIN_TOKEN,
    replica,
)
from tests.support.approval.devices import Device
from tests.support.approval.paths import sample_path

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import web

    from tests.integration.approval.replica import Replica
    from tools.support.processes.redis import RedisServer

FAILURES_LIMIT = 10
PUBLIC = {"/", "/livez", "/readyz", "/metrics", "/openapi.json", *(f.path for f in page_files())}
EMPTY = {"Authorization": "Bearer "}
WRONG = {
    "nothing": {},
    "another token": {"Authorization": "Bearer " + "x" * 40},
    "a part of it": {"Authorization": f"Bearer {ADMIN_TOKEN[:-1]}"},
    "more than it": {"Authorization": f"Bearer {ADMIN_TOKEN}0"},
    "an empty one": EMPTY,
    "no scheme": {"Authorization": ADMIN_TOKEN},
    "another scheme": {"Authorization": f"Basic {ADMIN_TOKEN}"},
    "another header": {"X-Authorization": f"Bearer {ADMIN_TOKEN}"},
    "a cookie": {"Cookie": f"token={ADMIN_TOKEN}; Authorization={ADMIN_TOKEN}"},
}


def routes(app: web.Application) -> list[tuple[str, str]]:
    """Return the method and path of every route, with placeholders filled in."""
    found = []
    for route in app.router.routes():
        assert route.resource is not None
        found.append((route.method, sample_path(route.resource.canonical)))
    return found


@pytest.fixture
async def nowhere() -> AsyncIterator[Operator]:
    """Return an API without Redis: callers without the admin token must still be refused."""
    async with replica("redis://127.0.0.1:1/0") as server, Operator(server) as operator:
        yield operator


class TestEveryRouteRequiresAuthentication:
    async def test_every_route_is_public_on_purpose_or_closed(
        self, here: Replica, nowhere: Operator
    ) -> None:
        seen = set()
        for method, path in routes(here.app):
            reply = await nowhere.call(method, path, headers={})
            if path in PUBLIC:
                assert reply.status == 200, path
                seen.add(path)
            else:
                assert reply.status == 401, path
        assert seen == PUBLIC
        assert len(routes(here.app)) >= len(OPERATIONS) + len(PAGES)

    @pytest.mark.parametrize("headers", WRONG.values(), ids=WRONG.keys())
    async def test_invalid_credentials_are_refused(
        self, operator: Operator, headers: dict[str, str]
    ) -> None:
        reply = await operator.call("GET", "/v1/requests", headers=headers)
        assert reply.problem(401, "unauthorized") == {}
        assert reply.headers["WWW-Authenticate"] == 'Bearer realm="latchkey"'

    @pytest.mark.parametrize("headers", WRONG.values(), ids=WRONG.keys())
    async def test_while_nothing_can_be_counted_wrong_and_right_get_the_same_answer(
        self, nowhere: Operator, headers: dict[str, str]
    ) -> None:
        for method, path in (("GET", "/v1/requests"), ("POST", "/v1/requests/%0a/approve")):
            right = await nowhere.call(method, path)
            wrong = await nowhere.call(method, path, headers=headers)
            if headers.get("Authorization", "").startswith("Bearer ") and headers != EMPTY:
                assert (wrong.status, wrong.text) == (right.status, right.text)
            else:
                assert wrong.problem(401, "unauthorized") == {}
        reply = await nowhere.call("GET", "/v1/requests")
        assert reply.problem(503, "store-unavailable") == {}

    async def test_a_lock_out_that_cannot_be_read_tells_nothing(
        self, operator: Operator, redis_server: RedisServer
    ) -> None:
        wrong = {"Authorization": "Bearer " + "x" * 40}
        for number in range(FAILURES_LIMIT):
            headers = {"Authorization": f"Bearer {number:040}"}
            await operator.call("GET", "/v1/requests", headers=headers)
        redis_server.kill9()
        try:
            for headers in (BEARER, wrong):
                reply = await operator.call("GET", "/v1/requests", headers=headers)
                assert reply.problem(503, "store-unavailable") == {}
        finally:
            redis_server.start()

    async def test_bytes_that_are_no_text(self, operator: Operator) -> None:
        answer = await operator.raw(
            "GET /v1/requests HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            "Authorization: Bearer \xff\xfe\r\n\r\n"
        )
        assert answer.startswith(b"HTTP/1.1 401 ")

    async def test_two_authorization_headers_are_refused(self, operator: Operator) -> None:
        header = f"Authorization: Bearer {ADMIN_TOKEN}\r\n"
        answer = await operator.raw(
            f"GET /v1/requests HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header * 2}\r\n"
        )
        assert answer.startswith(b"HTTP/1.1 401 ")

    async def test_a_token_in_the_url_is_refused(self, nowhere: Operator) -> None:
        for name in ("token", "access_token", "authorization"):
            reply = await nowhere.call("GET", f"/v1/requests?{name}={ADMIN_TOKEN}", headers={})
            assert reply.problem(401, "unauthorized") == {}

    async def test_guesses_lock_out_at_every_replica(
        self, here: Replica, there: Replica, operator: Operator
    ) -> None:
        """After ten wrong tokens in all, a right one is refused too, and nothing is looked up."""
        await here.store.liveness.write_alive("here")
        await there.store.liveness.write_alive("there")
        waiting = await here.request(Device.new().asks())
        async with Operator(there) as elsewhere:
            replies = []
            for number in range(FAILURES_LIMIT + 4):
                at = (operator, elsewhere)[number % 2]
                headers = {"Authorization": f"Bearer {number:040}"}
                path = f"/v1/requests/{waiting.request_id}/approve"
                replies.append(await at.call("POST", path, headers=headers))
            for reply in replies[:FAILURES_LIMIT]:
                assert reply.problem(401, "unauthorized") == {}
            for reply in replies[FAILURES_LIMIT:]:
                assert reply.problem(429, "locked-out") == {}
            for at in (operator, elsewhere):
                reply = await at.get("/v1/requests")
                assert reply.problem(429, "locked-out") == {}
                assert 200 < int(reply.headers["Retry-After"]) <= 300
                nothing = await at.call("GET", "/v1/requests", headers={})
                assert nothing.problem(401, "unauthorized") == {}
        (listed,) = await here.registry.pending(OPERATOR)
        assert listed.pending.request_id == waiting.request_id, "it still waits"

    async def test_others_are_not_locked_out_and_a_right_token_clears_the_count(
        self, redis_server: RedisServer
    ) -> None:
        url = redis_server.approval_url
        wrongs = ({"Authorization": f"Bearer {number:040}"} for number in itertools.count())

        async def come(operator: Operator, address: str, headers: dict[str, str]) -> int:
            sent = {"X-Real-IP": address, **headers}
            return (await operator.call("GET", "/v1/requests", headers=sent)).status

        async with (
            replica(url, TRUSTED_PROXIES="127.0.0.1,::1") as server,
            Operator(server) as operator,
        ):
            await server.store.liveness.write_alive("one")
            for _ in range(2):
                for _ in range(FAILURES_LIMIT - 1):
                    assert await come(operator, "203.0.113.9", next(wrongs)) == 401
                assert await come(operator, "203.0.113.9", BEARER) == 200
            for _ in range(FAILURES_LIMIT):
                assert await come(operator, "203.0.113.9", next(wrongs)) == 401
            assert await come(operator, "203.0.113.9", BEARER) == 429
            assert await come(operator, "198.51.100.1", BEARER) == 200

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"Authorization": "Basic b3BlcmF0b3I6Z3Vlc3M="},
            {"Authorization": f"Basic {ADMIN_TOKEN}"},
            {"Authorization": "Negotiate guess"},
            {"Authorization": "guess"},
            {"Authorization": "Bearer "},
        ],
        ids=["nothing", "Basic", "Basic with the token", "Negotiate", "no scheme", "empty Bearer"],
    )
    async def test_what_is_no_bearer_token_is_refused_and_not_counted(
        self, operator: Operator, headers: dict[str, str]
    ) -> None:
        for number in range(2 * FAILURES_LIMIT):
            sent = {
                name: f"{value}{number:d}" for name, value in headers.items() if value[-1] != " "
            }
            reply = await operator.call("GET", "/v1/requests", headers=sent or headers)
            assert reply.problem(401, "unauthorized") == {}
        (await operator.get("/v1/requests")).ok()

    async def test_the_same_wrong_token_again_is_no_other_guess(self, operator: Operator) -> None:
        wrong = {"Authorization": "Bearer " + "x" * 40}
        for _ in range(3 * FAILURES_LIMIT):
            reply = await operator.call("GET", "/v1/requests", headers=wrong)
            assert reply.problem(401, "unauthorized") == {}
        (await operator.get("/v1/requests")).ok()

    async def test_during_a_lock_out_another_scheme_gets_the_same_answer_as_before(
        self, operator: Operator
    ) -> None:
        """It is never compared with the token, so its answer reveals nothing."""
        for number in range(FAILURES_LIMIT):
            headers = {"Authorization": f"Bearer {number:040}"}
            await operator.call("GET", "/v1/requests", headers=headers)
        assert (await operator.get("/v1/requests")).status == 429
        basic = {"Authorization": f"Basic {ADMIN_TOKEN}"}
        reply = await operator.call("GET", "/v1/requests", headers=basic)
        assert reply.problem(401, "unauthorized") == {}

    async def test_guessing_ids_reveals_nothing_to_unauthenticated_clients(
        self, here: Replica, operator: Operator, nowhere: Operator
    ) -> None:
        """Existing and unknown ids get the same answer, and there are too many to guess."""
        ids = [(await here.request(Device.new().asks())).request_id for _ in range(20)]
        assert len({UUID(id_).int >> 64 for id_ in ids}) == len(ids)
        ones = [sum(UUID(id_).int >> bit & 1 for id_ in ids) for bit in range(128)]
        assert all(0 < count < len(ids) for count in ones), "every bit is drawn"
        for request_id in (ids[0], str(UUID(int=0))):
            for act in ("approve", "reject"):
                path = f"/v1/requests/{request_id}/{act}"
                reply = await nowhere.call("POST", path, headers={})
                assert reply.problem(401, "unauthorized") == {}
        assert len((await operator.call("GET", "/v1/requests")).body["pending"]) == len(ids)

    async def test_refused_before_the_call_is_looked_at(self, nowhere: Operator) -> None:
        """An unauthorized caller learns nothing about other errors in its call."""
        for method, path in (
            ("POST", "/v1/requests/%0a/approve?x=1&x=2"),
            ("PATCH", "/v1/devices/nobody"),
            ("GET", "/v1/audit?limit=no"),
        ):
            reply = await nowhere.call(method, path, headers={}, data=b"x" * 100_000)
            assert reply.problem(401, "unauthorized") == {}

    @pytest.mark.parametrize(
        "value", [f"Bearer {ADMIN_TOKEN}", f"bearer {ADMIN_TOKEN}", f"BEARER   {ADMIN_TOKEN} "]
    )
    async def test_the_admin_token_is_accepted_in_every_valid_spelling(
        self, operator: Operator, value: str
    ) -> None:
        reply = await operator.call("GET", "/v1/requests", headers={"Authorization": value})
        reply.ok()

    async def test_each_of_several_admin_tokens_is_accepted(
        self, redis_server: RedisServer
    ) -> None:
        """Several tokens allow changing the token without an outage."""
        new = "a-newer-admin-token-0123456789-0123456789"
        both = f"{new},{ADMIN_TOKEN}"
        url = redis_server.approval_url
        async with replica(url, APPROVAL_ADMIN_TOKEN=both) as server, Operator(server) as operator:
            for token in (new, ADMIN_TOKEN):
                headers = {"Authorization": f"Bearer {token}"}
                (await operator.call("GET", "/v1/requests", headers=headers)).ok()
            headers = {"Authorization": f"Bearer {both}"}
            reply = await operator.call("GET", "/v1/requests", headers=headers)
            assert reply.problem(401, "unauthorized") == {}


class TestOpsPort:
    async def test_metrics_and_reasons_are_not_public(self, redis_server: RedisServer) -> None:
        async with (
            replica(redis_server.approval_url, OPS_PORT="9") as server,
            Operator(server) as op,
        ):
            for headers in ({}, BEARER):
                assert (await op.call("GET", "/metrics", headers=headers)).status == 404
                ready = (await op.call("GET", "/readyz", headers=headers)).ok()
                assert ready.keys() == {"ready", "bootId"}
            assert "/metrics" not in (await op.get("/openapi.json")).ok()["paths"]
