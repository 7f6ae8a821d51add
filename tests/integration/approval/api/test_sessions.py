"""Signing in to and out of the operators' page: cookie, expiry, replicas, other sites."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from services.approval.access.csrf import PAGE_HEADER
from services.approval.access.sessions import LIFE_MS
from services.approval.api.operations import OPERATIONS
from services.approval.storage.sessions import session_key
from tests.integration.approval.api.browser import Browser
from tests.integration.approval.operator import BEARER, Operator
from tests.integration.approval.replica import ADMIN_TOKEN, everything, replica
from tests.support.approval.devices import Device
from tests.support.approval.paths import sample_path
from tests.support.http.events import EventReader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.approval.replica import Replica
    from tests.support.clock import FakeClock
    from tools.support.processes.redis import RedisServer

WRONG = {"Authorization": "Bearer " + "x" * 40}
FAILURES_LIMIT = 10
FORGED: dict[str, dict[str, str | None]] = {
    "a form of another site": {"Origin": "https://evil.example", PAGE_HEADER: None},
    "a form of a sandbox": {"Origin": "null", PAGE_HEADER: None},
    "no origin": {"Origin": None},
    "no header": {PAGE_HEADER: None},
    "a site beside ours": {"Sec-Fetch-Site": "same-site"},
    "another site, as the browser says": {"Sec-Fetch-Site": "cross-site"},
}


@pytest.fixture
async def browser(operator: Operator, here: Replica) -> Browser:
    await here.store.liveness.write_alive("here")
    entry = Browser(operator)
    (await entry.sign_in()).ok()
    return entry


@pytest.fixture
async def elsewhere(there: Replica) -> AsyncIterator[Operator]:
    await there.store.liveness.write_alive("there")
    async with Operator(there) as operator:
        yield operator


def attributes(reply: Any) -> set[str]:
    """Return the attributes of the received cookie without its value."""
    return {part.strip() for part in reply.headers["Set-Cookie"].split(";")[1:]}


class TestSigningIn:
    async def test_signing_in_sets_a_restricted_cookie(
        self, operator: Operator, here: Replica
    ) -> None:
        entry = Browser(operator)
        reply = await entry.sign_in()
        assert reply.ok() == {
            "operator": "admin",
            "permission": "manage",
            "signedInBy": "session",
            "expiresAtMs": here.store.now_ms() + LIFE_MS,
        }
        wanted = {"HttpOnly", "SameSite=Strict", f"Max-Age={LIFE_MS // 1000}"}
        assert attributes(reply) == wanted
        (await entry.call("GET", "/v1/requests")).ok()

    @pytest.mark.parametrize(
        ("settings", "headers", "secure"),
        [
            ({"APPROVAL_PUBLIC_URL": "https://approve.example"}, {}, True),
            ({"APPROVAL_PUBLIC_URL": "http://approve.example"}, {}, False),
            ({"TRUSTED_PROXIES": "127.0.0.1,::1"}, {"X-Forwarded-Proto": "https"}, True),
            ({"TRUSTED_PROXIES": "127.0.0.1,::1"}, {"X-Forwarded-Proto": "http"}, False),
            ({}, {"X-Forwarded-Proto": "https"}, False),
        ],
    )
    async def test_the_cookie_is_secure_if_the_browser_used_https(
        self,
        redis_server: RedisServer,
        settings: dict[str, Any],
        headers: dict[str, str],
        secure: bool,  # noqa: FBT001
    ) -> None:
        url = redis_server.approval_url
        async with replica(url, **settings) as server, Operator(server) as operator:
            reply = await Browser(operator).sign_in({**BEARER, **headers})
            reply.ok()
            assert ("Secure" in attributes(reply)) is secure

    async def test_a_session_names_the_address_that_devices_connect_to(
        self, redis_server: RedisServer
    ) -> None:
        url = redis_server.approval_url
        async with (
            replica(url, GATEWAY_PUBLIC_URL="wss://gw.example/") as server,
            Operator(server) as operator,
        ):
            assert (await operator.get("/v1/session")).ok() == {
                "operator": "admin",
                "permission": "manage",
                "signedInBy": "token",
                "gatewayUrl": "wss://gw.example",
            }

    async def test_guesses_are_counted_with_all_others(
        self, operator: Operator, elsewhere: Operator
    ) -> None:
        """Sign-in, all calls and all replicas share one limit."""
        for number in range(FAILURES_LIMIT):
            at = (operator, elsewhere)[number % 2]
            path = ("/v1/session", "/v1/requests")[number // 2 % 2]
            method = "POST" if path == "/v1/session" else "GET"
            headers = {"Authorization": f"Bearer {number:040}"}
            (await at.call(method, path, headers=headers)).problem(401, "unauthorized")
        for at in (operator, elsewhere):
            entry = Browser(at)
            reply = await entry.sign_in()
            reply.problem(429, "locked-out")
            assert "Set-Cookie" not in reply.headers
            assert int(reply.headers["Retry-After"]) > 0

    async def test_a_lock_out_ends_no_session_and_a_bad_cookie_counts_for_nothing(
        self, browser: Browser, operator: Operator
    ) -> None:
        for _ in range(2 * FAILURES_LIMIT):
            forged = Browser(operator, browser.cookie[:-1] + "x")
            (await forged.call("GET", "/v1/requests")).problem(401, "unauthorized")
        (await operator.get("/v1/requests")).ok()
        for number in range(FAILURES_LIMIT):
            headers = {"Authorization": f"Bearer {number:040}"}
            await operator.call("GET", "/v1/requests", headers=headers)
        (await operator.get("/v1/requests")).problem(429, "locked-out")
        (await browser.call("GET", "/v1/requests")).ok()

    async def test_a_session_is_not_enough_for_a_backup(self, browser: Browser) -> None:
        for method in ("GET", "HEAD"):
            assert (await browser.call(method, "/v1/backup")).status == 401

    async def test_a_session_opens_no_other_one(self, browser: Browser) -> None:
        """Otherwise it could be kept alive forever."""
        reply = await browser.call("POST", "/v1/session")
        reply.problem(401, "unauthorized")
        assert "Set-Cookie" not in reply.headers

    async def test_a_header_that_the_browser_adds_by_itself_ends_no_session(
        self, browser: Browser
    ) -> None:
        """For example, of a proxy that requires Basic authentication."""
        basic: dict[str, str | None] = {"Authorization": "Basic b3BlcmF0b3I6c2VjcmV0"}
        (await browser.call("GET", "/v1/requests", but=basic)).ok()
        foreign: dict[str, str | None] = {
            **basic,
            "Sec-Fetch-Site": "cross-site",
            "Origin": "https://evil.example",
        }
        reply = await browser.call("POST", "/v1/requests/r/approve", but=foreign)
        reply.problem(403, "cross-site")

    async def test_with_a_wrong_token_the_cookie_does_not_help(self, browser: Browser) -> None:
        reply = await browser.call("GET", "/v1/requests", but=dict(WRONG))
        reply.problem(401, "unauthorized")


class TestEnd:
    async def test_a_session_ends_at_its_time(
        self, browser: Browser, clock: FakeClock, here: Replica
    ) -> None:
        clock.advance(LIFE_MS / 1000 - 1)
        (await browser.call("GET", "/v1/requests")).ok()
        clock.advance(1)
        (await browser.call("GET", "/v1/requests")).problem(401, "unauthorized")

    async def test_redis_forgets_it_by_itself(
        self, browser: Browser, redis_server: RedisServer, here: Replica
    ) -> None:
        key = session_key(browser.cookie.split(".")[1])
        assert 0 < await here.redis.pttl(key) <= LIFE_MS

    async def test_signing_out_ends_the_session_at_every_replica(
        self, browser: Browser, elsewhere: Operator
    ) -> None:
        (await browser.at(elsewhere).call("GET", "/v1/requests")).ok()
        reply = await browser.call("DELETE", "/v1/session")
        assert reply.ok() == {"ended": True}
        assert "Max-Age=0" in attributes(reply)
        for item in (browser, browser.at(elsewhere)):
            (await item.call("GET", "/v1/requests")).problem(401, "unauthorized")

    async def test_signing_out_ends_no_other_session(self, browser: Browser) -> None:
        other = Browser(browser.operator)
        await other.sign_in()
        await browser.call("DELETE", "/v1/session")
        (await other.call("GET", "/v1/requests")).ok()
        assert (await browser.operator.call("DELETE", "/v1/session")).ok() == {"ended": False}

    async def test_a_session_ends_with_its_admin_token(self, redis_server: RedisServer) -> None:
        url = redis_server.approval_url
        new = "a-newer-admin-token-0123456789-0123456789"
        both = f"{new},{ADMIN_TOKEN}"
        async with replica(url, APPROVAL_ADMIN_TOKEN=both) as server, Operator(server) as operator:
            old = Browser(operator)
            await old.sign_in()
            young = Browser(operator)
            await young.sign_in({"Authorization": f"Bearer {new}"})
        async with replica(url, APPROVAL_ADMIN_TOKEN=new) as server, Operator(server) as operator:
            (await old.at(operator).call("GET", "/v1/requests")).problem(401, "unauthorized")
            (await young.at(operator).call("GET", "/v1/requests")).ok()

    async def test_a_session_ends_when_redis_lost_everything(
        self, browser: Browser, redis_server: RedisServer
    ) -> None:
        redis_server.call("FLUSHALL")
        (await browser.call("GET", "/v1/requests")).problem(401, "unauthorized")

    async def test_while_redis_is_away_it_is_not_known(
        self, browser: Browser, redis_server: RedisServer
    ) -> None:
        redis_server.kill9()
        (await browser.call("GET", "/v1/requests")).problem(503, "store-unavailable")

    async def test_the_end_of_a_session_ends_its_streams_at_other_replicas(
        self, browser: Browser, elsewhere: Operator
    ) -> None:
        async with elsewhere._client.session.get(
            elsewhere.url.with_path("/v1/events"),
            headers={"Cookie": f"latchkey_session={browser.cookie}"},
        ) as response:
            listener = EventReader(response)
            await listener.begun()
            await browser.call("DELETE", "/v1/session")
            assert await response.content.read() == b""


class TestCrossSiteRequests:
    """A call made by another site carries the cookie and has no effect."""

    @pytest.mark.parametrize("but", FORGED.values(), ids=FORGED.keys())
    async def test_a_cross_site_request_approves_nothing(
        self, browser: Browser, here: Replica, but: dict[str, str | None]
    ) -> None:
        waiting = await here.request(Device.new().asks())
        for path in ("approve", "reject"):
            reply = await browser.call("POST", f"/v1/requests/{waiting.request_id}/{path}", but=but)
            reply.problem(403, "cross-site")
        assert await browser.operator.pending_ids() == [waiting.request_id]
        (await browser.call("DELETE", "/v1/session", but=but)).problem(403, "cross-site")

    async def test_every_change_is_refused(self, browser: Browser) -> None:
        for operation in OPERATIONS:
            if operation.changes and not operation.token_only:
                path = sample_path(operation.path)
                reply = await browser.call(operation.method, path, but={PAGE_HEADER: None})
                reply.problem(403, "cross-site")

    async def test_no_get_changes_anything(self, browser: Browser, here: Replica) -> None:
        waiting = await here.request(Device.new().asks())
        path = f"/v1/requests/{waiting.request_id}/approve"
        for method in ("GET", "HEAD", "OPTIONS"):
            assert (await browser.call(method, path)).status == 405
        override = {"X-HTTP-Method-Override": "POST"}
        assert (await browser.call("GET", f"{path}?_method=POST", but=dict(override))).status == 405
        assert await browser.operator.pending_ids() == [waiting.request_id]

    async def test_no_other_site_is_allowed_to_ask(self, browser: Browser) -> None:
        """A browser sends a preflight before it sends our header or a bearer token cross-site."""
        reply = await browser.call("OPTIONS", "/v1/session", but={"Origin": "https://evil.example"})
        assert not any(name.lower().startswith("access-control") for name in reply.headers)

    async def test_a_bearer_needs_none_of_it(self, operator: Operator, here: Replica) -> None:
        waiting = await here.request(Device.new().asks())
        headers = {**BEARER, "Origin": "https://console.example", "Sec-Fetch-Site": "cross-site"}
        path = f"/v1/requests/{waiting.request_id}/approve"
        (await operator.call("POST", path, headers=headers)).ok()


class TestApprovalIsByRequestId:
    async def test_what_was_shown_is_what_is_approved(
        self, browser: Browser, here: Replica
    ) -> None:
        """Approval is by id: later requests stay pending, and a wider request has another id."""
        device = Device.new()
        shown = await here.request(device.asks())
        newcomer = await here.request(Device.new().asks())
        wider = await here.request(device.asks(("operator.read", "operator.admin")))
        reply = await browser.call("POST", f"/v1/requests/{shown.request_id}/approve")
        problem = reply.problem(409, "request-superseded")
        assert problem["successorRequestId"] == wider.request_id
        waiting = await browser.operator.pending_ids()
        assert sorted(waiting) == sorted([newcomer.request_id, wider.request_id])


class TestSessionsAndTokensAreNotLogged:
    async def test_no_session_and_no_token_appears_anywhere(
        self, browser: Browser, redis_server: RedisServer
    ) -> None:
        replies = []
        with capture_logs() as lines:
            replies.append(await browser.call("GET", "/v1/session"))
            replies.append(await browser.call("GET", f"/v1/requests?token={ADMIN_TOKEN}"))
            replies.append(await browser.call("GET", f"/v1/{browser.cookie}"))
            replies.append(await browser.operator.get("/metrics"))
            replies.append(await browser.call("DELETE", "/v1/session"))
            again = Browser(browser.operator)
            await again.sign_in()
        texts = {
            "logs": json.dumps(lines, default=repr),
            "Redis": repr(await everything(redis_server.admin_url)),
            "replies": repr([(reply.headers, reply.text) for reply in replies]),
        }
        for secret in (browser.cookie, again.cookie, again.cookie.split(".")[2], ADMIN_TOKEN):
            for where, text in texts.items():
                assert secret not in text, where
        logged = [line["operation"] for line in lines if line["event"] == "operator.call"]
        assert logged == ["endSession", "openSession"]


class TestLineBreaksInLabels:
    async def test_a_label_with_a_line_break_is_one_entry(
        self, browser: Browser, here: Replica
    ) -> None:
        device = await here.paired()
        label = 'x\n{"action":"approved","actor":"operator"}\r\nid: 9'
        path = f"/v1/devices/{device.device_id}"
        before = len(await browser.operator.audit())
        (await browser.call("PATCH", path, json={"label": label})).ok()
        (entry,) = (await browser.operator.audit())[before:]
        assert (entry["action"], entry["label"]) == ("renamed", label)
        reply = await browser.call("GET", f"/v1/audit?after={before}")
        assert len(reply.text.splitlines()) == 1
