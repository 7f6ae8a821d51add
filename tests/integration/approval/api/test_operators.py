"""Named operators: tokens, permissions, revocation at every replica, sessions and streams."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientError
from structlog.testing import capture_logs

from services.approval.api import backup_routes
from services.approval.api.calls import BODY_TRUSTED_SECONDS
from services.approval.api.operations import OPERATIONS
from services.approval.domain.authorization import OPERATOR, Caller
from services.approval.domain.errors import NotAllowed, StoreUnavailable
from services.approval.domain.operators import OPERATORS_LIMIT
from services.approval.domain.permissions import Permission
from services.approval.storage.keys import OPERATORS
from services.approval.storage.operators import USED_APART_MS
from tests.integration.approval.api.browser import Browser
from tests.integration.approval.api.named_operators import create, revoke
from tests.integration.approval.operator import BEARER, Operator
from tests.integration.approval.replica import everything, replica
from tests.support.approval.devices import Device
from tests.support.approval.paths import sample_path
from tests.support.http.events import EventReader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.approval.api.operations import Operation
    from tests.integration.approval.replica import Replica
    from tests.support.clock import FakeClock
    from tools.support.processes.redis import RedisServer

FAILURES_LIMIT = 10
HOUR_MS = 3_600_000
RULE = {
    "name": "nodes",
    "role": "node",
    "networks": ["192.0.2.0/24"],
    "count": 1,
    "expiresAtMs": time.time_ns() // 1_000_000 + HOUR_MS,
}
BODIES: dict[str, Any] = {
    "createSetupCode": {"gatewayUrl": "wss://gw.example.com"},
    "rejectRequests": {"requestIds": ["r"]},
    "renameDevice": {"label": "x"},
    "addRule": RULE,
    "tryRule": RULE,
    "createOperator": {"name": "another", "permission": "view"},
    "importPart": {"importId": "0" * 16, "devices": [], "dryRun": True},
    "restorePart": {"backupId": "0" * 64, "number": 0, "total": 0, "at": 0, "devices": []},
}


@pytest.fixture
async def admin(operator: Operator, here: Replica, there: Replica) -> Operator:
    await here.store.liveness.write_alive("here")
    await there.store.liveness.write_alive("there")
    return operator


class TestPermissions:
    @pytest.mark.parametrize("operation", OPERATIONS, ids=[one.id for one in OPERATIONS])
    @pytest.mark.parametrize("held", Permission)
    async def test_each_permission_against_every_operation(
        self, admin: Operator, held: Permission, operation: Operation
    ) -> None:
        headers = await create(admin, "somebody", held.label)
        path = sample_path(operation.path)
        if operation.streams:
            async with listening(admin, headers) as reader:
                assert await reader.begun() >= 0
            return
        reply = await admin.call(
            operation.method, path, headers=headers, json=BODIES.get(operation.id)
        )
        if held >= operation.permission:
            assert reply.status in {200, 404}, reply.text
        else:
            reply.problem(403, "not-allowed")
            assert operation.permission.label in reply.body["detail"]

    async def test_the_registry_refuses_too(self, here: Replica) -> None:
        """A route that forgets its permission changes nothing for an operator who may only view."""
        device = Device.new()
        asked = await here.request(device.asks())
        viewer = Caller("operator", "operator:viewer", ("operator.admin",))
        for call in (
            here.registry.approve(viewer, asked.request_id),
            here.registry.reject(viewer, asked.request_id),
            here.registry.reject_all(viewer, [asked.request_id]),
            here.registry.lockouts.lift(viewer, "device-token", "203.0.113.9"),
            here.operators.list(viewer),
            here.operators.create(viewer, "x", Permission.MANAGE),
            here.operators.revoke(viewer, "x"),
            anext(here.backups.backup(viewer)),
        ):
            with pytest.raises(NotAllowed):
                await call
        (waiting,) = await here.registry.pending(viewer)
        assert waiting.pending.request_id == asked.request_id

    async def test_no_scope_of_a_socket_manages_operators(self, here: Replica) -> None:
        socket = Caller("shared-secret", "x", ("operator.admin",), permission=Permission.MANAGE)
        with pytest.raises(NotAllowed):
            await here.operators.create(socket, "x", Permission.MANAGE)


class TestCreating:
    async def test_the_token_is_shown_once_and_not_stored(
        self, admin: Operator, redis_server: RedisServer
    ) -> None:
        with capture_logs() as lines:
            headers = await create(admin, "alice", "decide")
            (await admin.call("GET", "/v1/requests", headers=headers)).ok()
        token = headers["Authorization"].removeprefix("Bearer ")
        assert token.startswith("lko_alice_")
        for value in (await everything(redis_server.admin_url)).values():
            assert token[-43:].encode() not in value
        assert token[-43:] not in str(lines)
        assert token[-43:] not in (await admin.get("/v1/operators")).text
        assert token[-43:] not in (await admin.get("/v1/audit")).text

    async def test_operators_are_listed_with_who_created_them_and_when_they_were_active(
        self, admin: Operator, here: Replica, clock: FakeClock
    ) -> None:
        created_ms = here.store.now_ms()
        alice = await create(admin, "alice", "decide", expiresAtMs=created_ms + HOUR_MS)
        await create(admin, "bob")
        clock.advance(USED_APART_MS / 1000)
        (await admin.call("GET", "/v1/requests", headers=alice)).ok()
        used_ms = here.store.now_ms()
        listed = (await admin.get("/v1/operators")).ok()["operators"]
        assert listed[0].pop("lastUsedAtMs") >= created_ms
        assert listed == [
            {"name": "admin", "kind": "admin", "permission": "manage"},
            {
                "name": "alice",
                "kind": "token",
                "permission": "decide",
                "createdAtMs": created_ms,
                "createdBy": "operator:admin",
                "expiresAtMs": created_ms + HOUR_MS,
                "lastUsedAtMs": used_ms,
            },
            {
                "name": "bob",
                "kind": "token",
                "permission": "view",
                "createdAtMs": created_ms,
                "createdBy": "operator:admin",
            },
        ]

    async def test_the_last_use_is_written_once_a_minute(
        self, admin: Operator, here: Replica, clock: FakeClock
    ) -> None:
        alice = await create(admin, "alice")
        (await admin.call("GET", "/v1/requests", headers=alice)).ok()
        first_ms = here.store.now_ms()
        clock.advance(USED_APART_MS / 1000 - 1)
        (await admin.call("GET", "/v1/requests", headers=alice)).ok()
        listed = (await admin.get("/v1/operators")).ok()["operators"]
        assert listed[1]["lastUsedAtMs"] == first_ms

    @pytest.mark.parametrize(
        "name",
        ["", "Alice", "al ice", "<b>", "al_ice", "a/b", "1a", "-a", "a" * 33, "ä", "a\n", "sso:a"],
    )
    async def test_names_have_a_small_alphabet(self, admin: Operator, name: str) -> None:
        body = {"name": name, "permission": "view"}
        (await admin.post("/v1/operators", body)).problem(400, "malformed")

    async def test_what_cannot_be_created(self, admin: Operator, here: Replica) -> None:
        await create(admin, "alice")
        for body, status, problem in (
            ({"name": "alice", "permission": "view"}, 409, "operator-exists"),
            ({"name": "admin", "permission": "view"}, 409, "built-in-operator"),
            (
                {"name": "x", "permission": "view", "expiresAtMs": here.store.now_ms()},
                409,
                "expires-in-past",
            ),
            ({"name": "x", "permission": "root"}, 400, "malformed"),
            ({"name": "x"}, 400, "malformed"),
        ):
            (await admin.post("/v1/operators", body)).problem(status, problem)

    async def test_there_is_a_limit(self, admin: Operator, here: Replica) -> None:
        for number in range(OPERATORS_LIMIT):
            await here.operators.create(OPERATOR, f"n{number}", Permission.VIEW)
        body = {"name": "one-more", "permission": "view"}
        (await admin.post("/v1/operators", body)).problem(409, "too-many-operators")

    async def test_at_two_replicas_one_of_two_gets_the_name(
        self, admin: Operator, elsewhere: Operator
    ) -> None:
        body = {"name": "alice", "permission": "view"}
        for round_ in range(20):
            body["name"] = f"alice-{round_}"
            replies = await asyncio.gather(
                admin.post("/v1/operators", body), elsewhere.post("/v1/operators", body)
            )
            assert sorted(reply.status for reply in replies) == [200, 409]
        assert len((await admin.get("/v1/operators")).ok()["operators"]) == 21


class TestNames:
    async def test_audit_log_event_and_log_name_the_operator(
        self, admin: Operator, here: Replica
    ) -> None:
        alice = await create(admin, "alice", "decide")
        device = Device.new()
        asked = await here.request(device.asks())
        with capture_logs() as lines:
            reply = await admin.call(
                "POST", f"/v1/requests/{asked.request_id}/approve", headers=alice
            )
        reply.ok()
        entries = (await admin.get("/v1/audit")).ok()["entries"]
        assert [(one["action"], one["actor"]) for one in entries] == [
            ("operator-created", "operator:admin"),
            ("requested", f"device {device.device_id}"),
            ("approved", "operator:alice"),
        ]
        assert (entries[0]["label"], entries[0]["permission"]) == ("alice", "decide")
        assert [line["operator"] for line in lines if line["event"] == "operator.call"] == ["alice"]
        assert here.published[-1].kind == "approved"

    async def test_a_session_names_its_operator(self, admin: Operator) -> None:
        browser = Browser(admin)
        opened = (await browser.sign_in(await create(admin, "alice", "decide"))).ok()
        assert (opened["operator"], opened["permission"]) == ("alice", "decide")
        shown = (await browser.call("GET", "/v1/session")).ok()
        assert (shown["operator"], shown["permission"]) == ("alice", "decide")


class TestRevoking:
    async def test_a_revoked_token_is_refused_at_once_at_every_replica(
        self, admin: Operator, elsewhere: Operator
    ) -> None:
        alice = await create(admin, "alice")
        for at in (admin, elsewhere):
            (await at.call("GET", "/v1/requests", headers=alice)).ok()
        revoked = (await revoke(elsewhere, "alice")).ok()["revoked"]
        assert (revoked["name"], revoked["permission"]) == ("alice", "view")
        for at in (admin, elsewhere):
            reply = await at.call("GET", "/v1/requests", headers=alice)
            reply.problem(401, "unauthorized")
        (await revoke(admin, "alice")).problem(404, "unknown-operator")
        entry = (await admin.get("/v1/audit")).ok()["entries"][-1]
        assert (entry["action"], entry["label"]) == ("operator-revoked", "alice")

    async def test_its_sessions_end_at_once_at_every_replica(
        self, admin: Operator, elsewhere: Operator
    ) -> None:
        browser = Browser(admin)
        (await browser.sign_in(await create(admin, "alice"))).ok()
        for at in (admin, elsewhere):
            (await browser.at(at).call("GET", "/v1/requests")).ok()
        await revoke(elsewhere, "alice")
        for at in (admin, elsewhere):
            (await browser.at(at).call("GET", "/v1/requests")).problem(401, "unauthorized")
        await create(admin, "alice", "manage")
        for at in (admin, elsewhere):
            (await browser.at(at).call("GET", "/v1/requests")).problem(401, "unauthorized")

    @pytest.mark.parametrize("by", ["token", "session"])
    async def test_an_open_stream_ends_and_shows_nothing_more(
        self, admin: Operator, there: Replica, elsewhere: Operator, by: str
    ) -> None:
        """The event of the revocation was lost: no replica of this test has a bus."""
        alice = await create(admin, "alice")
        headers = alice
        if by == "session":
            browser = Browser(admin)
            (await browser.sign_in(alice)).ok()
            headers = {"Cookie": f"latchkey_session={browser.cookie}"}
        async with listening(admin, headers) as reader:
            await reader.begun()
            await revoke(elsewhere, "alice")
            await there.request(Device.new().asks())
            async with asyncio.timeout(5):
                assert await reader.next() is None

    async def test_a_call_begun_before_is_not_finished_after_it(
        self, admin: Operator, here: Replica
    ) -> None:
        """A revoked operator cannot hold a call open and complete its body later."""
        alice = await create(admin, "alice", "decide")
        asked = await here.request(Device.new().asks())
        reader, writer = await asyncio.open_connection("127.0.0.1", admin.url.port)
        try:
            writer.write(
                f"POST /v1/requests/{asked.request_id}/approve HTTP/1.1\r\nHost: x\r\n"
                f"Connection: close\r\nAuthorization: {alice['Authorization']}\r\n"
                "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{".encode()
            )
            await asyncio.sleep(BODY_TRUSTED_SECONDS + 0.1)  # it is authenticated meanwhile
            await revoke(admin, "alice")
            writer.write(b"}")
            answer = await asyncio.wait_for(reader.read(), 10)
        finally:
            writer.close()
            await writer.wait_closed()
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert b"ended while the call was read" in answer
        assert await admin.pending_ids() == [asked.request_id]

    async def test_a_backup_is_cut_off(
        self, admin: Operator, here: Replica, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(backup_routes, "CHECK_SECONDS", 0.0)
        for number in range(3):
            await here.pair(Device.new(), name=f"device {number}")
        boss = await create(admin, "boss", "manage")
        backup = here.backups.backup
        monkeypatch.setattr(here.backups, "backup", lambda caller: revoking(backup(caller)))

        async def revoking(lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
            async for number, line in enumerated(lines):
                if number == 1:
                    await here.operators.revoke(OPERATOR, "boss")
                yield line

        url = admin.url.with_path("/v1/backup")
        async with admin._client.session.get(url, headers=boss) as response:
            assert response.status == 200
            with pytest.raises(ClientError):
                await response.read()

    async def test_the_admin_token_cannot_be_revoked_here(self, admin: Operator) -> None:
        (await revoke(admin, "admin")).problem(409, "built-in-operator")
        (await admin.get("/v1/operators")).ok()

    async def test_an_expired_token_and_its_session_are_refused(
        self, admin: Operator, here: Replica, clock: FakeClock
    ) -> None:
        ends_ms = here.store.now_ms() + HOUR_MS
        alice = await create(admin, "alice", expiresAtMs=ends_ms)
        browser = Browser(admin)
        assert (await browser.sign_in(alice)).ok()["expiresAtMs"] == ends_ms
        clock.advance(HOUR_MS / 1000 - 2)
        (await admin.call("GET", "/v1/requests", headers=alice)).ok()
        clock.advance(3)
        (await admin.call("GET", "/v1/requests", headers=alice)).problem(401, "unauthorized")
        (await browser.call("GET", "/v1/requests")).problem(401, "unauthorized")
        assert (await admin.get("/v1/operators")).ok()["operators"][1]["expired"] is True


class TestWrongTokens:
    async def test_they_lock_out_with_those_of_the_admin(
        self, admin: Operator, elsewhere: Operator
    ) -> None:
        """One budget for all, over all replicas; then a right token is refused too."""
        alice = await create(admin, "alice")
        right = alice["Authorization"]
        for number in range(FAILURES_LIMIT):
            wrong = (f"{right[:-2]}{number:02}", f"Bearer {number:040}")[number % 2]
            at = (admin, elsewhere)[number % 2]
            reply = await at.call("GET", "/v1/requests", headers={"Authorization": wrong})
            reply.problem(401, "unauthorized")
        for at in (admin, elsewhere):
            for headers in (alice, BEARER):
                (await at.call("GET", "/v1/requests", headers=headers)).problem(429, "locked-out")

    async def test_operators_that_cannot_be_read_are_unknown_and_not_refused(
        self, admin: Operator, here: Replica
    ) -> None:
        alice = await create(admin, "alice")
        await here.redis.set(OPERATORS, b"0123456789abcdef\xc1")
        reply = await admin.call("GET", "/v1/requests", headers=alice)
        reply.problem(503, "unreadable-record")
        (await admin.get("/v1/requests")).ok()
        with pytest.raises(StoreUnavailable):
            await here.operators.list(OPERATOR)

    async def test_a_forged_cookie_of_an_operator_is_refused(self, admin: Operator) -> None:
        """Whoever reads Redis knows the session and the token's hash, but cannot sign a cookie."""
        browser = Browser(admin)
        (await browser.sign_in(await create(admin, "alice"))).ok()
        expires, session_id, name, mac = browser.cookie.split(".")
        for cookie in (
            f"{expires}.{session_id}.bob.{mac}",
            f"{expires}.{session_id}.{mac}",
            f"{int(expires) + 1}.{session_id}.{name}.{mac}",
            f"{expires}.{session_id}.{name}.{'0' * 64}",
        ):
            reply = await Browser(admin, cookie).call("GET", "/v1/requests")
            reply.problem(401, "unauthorized")

    async def test_the_token_secret_signs_named_sessions(self, redis_server: RedisServer) -> None:
        """A session lasts while TOKEN_SECRET is changed, and ends with the value it was made by."""
        old, new = "the-old-token-secret-0123456789-0123", "the-new-token-secret-0123456789-0123"
        url = redis_server.approval_url
        bus = "the-bus-secret-of-this-test-0123456789-0123"
        async with replica(url, TOKEN_SECRET=old, BUS_SECRET=bus) as one, Operator(one) as first:
            await one.store.liveness.write_alive("one")
            browser = Browser(first)
            (await browser.sign_in(await create(first, "alice"))).ok()
        for secrets, status in ((f"{new},{old}", 200), (new, 401)):
            async with replica(url, TOKEN_SECRET=secrets) as one, Operator(one) as then:
                await one.store.liveness.write_alive("one")
                assert (await browser.at(then).call("GET", "/v1/requests")).status == status


async def enumerated(lines: AsyncIterator[bytes]) -> AsyncIterator[tuple[int, bytes]]:
    number = 0
    async for line in lines:
        yield number, line
        number += 1


@contextlib.asynccontextmanager
async def listening(at: Operator, headers: dict[str, str]) -> AsyncIterator[EventReader]:
    """Open a stream as this operator."""
    async with at._client.session.get(at.url.with_path("/v1/events"), headers=headers) as response:
        assert response.status == 200, await response.text()
        yield EventReader(response)
