"""No secret appears in answers, logs or metrics, and what they contain instead."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from structlog.testing import capture_logs

from services.approval.domain.authorization import OPERATOR
from shared.rpc.messages import Admitted
from tests.integration.approval.replica import (
    ADMIN_TOKEN,
    TOKEN_SECRET,
    everything,
)
from tests.support.approval.devices import READ, READ_PAIRING, Device
from tests.support.task_count import check_task_count
from tools.support.metrics import metric

if TYPE_CHECKING:
    from tests.integration.approval.operator import Operator
    from tests.integration.approval.replica import Replica
    from tools.support.processes.redis import RedisServer


class TestSecretsAreNowhereInOutput:
    """Secrets appear in no log, metric or error, and not in Redis."""

    async def test_nothing_secret_is_found_anywhere(
        self, here: Replica, operator: Operator, redis_server: RedisServer
    ) -> None:
        device = Device.new()
        replies = []
        with capture_logs() as lines:
            old = await here.pair(device, *READ_PAIRING)
            rotate = f"/v1/devices/{device.device_id}/tokens/operator/rotate"
            replies.append(await operator.post(rotate, {"scopes": ["operator.read"]}))
            again = device.asks(READ_PAIRING, call_id="gateway:again")
            fresh = await here.admit(again)
            assert await here.answer(again) == fresh
            asked = device.asks(token=fresh.device_token, name="another name")
            assert isinstance(await here.answer(asked), Admitted)
            await here.answer(device.asks(token=old.device_token))
            replies += [
                await operator.get("/v1/devices"),
                await operator.get("/v1/audit"),
                await operator.get("/metrics"),
                await operator.post(rotate, {"token": fresh.device_token}),
                await operator.call("GET", f"/v1/requests?token={ADMIN_TOKEN}", headers={}),
                await operator.call("GET", f"/v1/{ADMIN_TOKEN}"),
            ]
        texts = {
            "logs": json.dumps(lines, default=repr),
            "Redis": repr(await everything(redis_server.admin_url)),
            "replies": repr([(reply.headers, reply.text) for reply in replies]),
        }
        for secret in (old.device_token, fresh.device_token, ADMIN_TOKEN, TOKEN_SECRET):
            for where, text in texts.items():
                assert secret not in text, f"{secret} is in {where}"

    async def test_a_try_after_a_try_gets_the_same_token(self, here: Replica) -> None:
        """The first answer is stored without its token, and complete when repeated."""
        device = Device.new()
        await here.pair(device, *READ_PAIRING)
        asked = device.asks(READ_PAIRING, call_id="gateway:x")
        answers = []
        for _ in range(2):
            await here.registry.rotate(OPERATOR, device.device_id, "operator", READ)
            answers.append(await here.admit(asked))
        assert answers[0].device_token
        assert answers[0] == answers[1]


class TestLogs:
    async def test_a_call_that_changes_something_has_a_line(
        self, here: Replica, operator: Operator
    ) -> None:
        device = Device.new()
        asked = await here.request(device.asks())
        calls: list[tuple[str, str, Any]] = [
            ("POST", f"/v1/requests/{asked.request_id}/approve", None),
            ("PATCH", f"/v1/devices/{device.device_id}", {"label": "a\nb"}),
            ("PATCH", f"/v1/devices/{device.device_id}", {"name": "x"}),
            ("POST", f"/v1/devices/{device.device_id}/tokens/operator/revoke", None),
            ("DELETE", f"/v1/devices/{device.device_id}", None),
            ("DELETE", "/v1/devices/x%0ay", None),
            ("GET", "/v1/requests", None),
        ]
        with capture_logs() as lines:
            for method, path, body in calls:
                await operator.call(method, path, json=body)
        logged = [line for line in lines if line["event"] == "operator.call"]
        device_id = {"device_id": device.device_id}
        for line in logged:
            assert line.pop("milliseconds") >= 0
            assert line.pop("address") == "127.0.0.1"
            assert line.pop("operator") == "admin"
            line.pop("event")
            line.pop("log_level")
        assert logged == [
            {"operation": "approveRequest", "status": 200, "request_id": asked.request_id},
            {"operation": "renameDevice", "status": 200, **device_id},
            {"operation": "renameDevice", "status": 400, **device_id},
            {"operation": "revokeToken", "status": 200, **device_id, "role": "operator"},
            {"operation": "removeDevice", "status": 200, **device_id},
            {"operation": "removeDevice", "status": 400},
        ]


class TestMetrics:
    async def test_operations_are_named_and_paths_are_not(
        self, here: Replica, operator: Operator
    ) -> None:
        await operator.get("/v1/devices/" + "0" * 64)
        await operator.get("/v1/nothing-of-the-kind")
        await operator.call("HEAD", "/v1/devices")
        await operator.call("GET", "/v1/devices", headers={})
        text = (await operator.get("/metrics")).text
        for operation, status in (
            ("getDevice", 404),
            ("other", 404),
            ("listDevices", 200),
            ("listDevices", 401),
        ):
            line = f'http_calls_total{{operation="{operation}",status="{status}"}} 1.0'
            assert line in text
        assert "nothing-of-the-kind" not in text
        assert "0" * 64 not in text
        assert 'http_seconds_count{operation="getDevice"} 1.0' in text

    async def test_the_tasks_of_the_event_loop_are_counted(self, operator: Operator) -> None:
        async def tasks() -> float | None:
            return metric((await operator.get("/metrics")).text, "latchkey_approval_tasks")

        await check_task_count(tasks)
