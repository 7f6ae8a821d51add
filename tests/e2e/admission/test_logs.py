"""Every attempt is logged, and no secret appears in any log, metric or answer."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from services.approval.storage.keys import guard_key
from shared.device.client import DeviceClient
from shared.device.handshake import Admitted, Credentials
from shared.device.identity import DeviceKey
from shared.device.profile import CLI, CLI_3, CONTROL_UI, NODE_HOST
from tests.support.websocket.raw_socket import RawSocket
from tools.support.actors import Operator, SimulatedDevice, log_lines, pair, wait_for_log
from tools.support.waiting import until

if TYPE_CHECKING:
    from shared.device.profile import Profile
    from tests.conftest import StartStack
    from tools.support.processes.service import ServiceProcess
    from tools.support.processes.stack import Stack

PUBLIC_URL = "https://approve.example"
REQUIRED = {"timestamp", "level", "event", "service", "replica"}


@pytest.fixture(scope="module")
def stack(start_stack: StartStack) -> Stack:
    """Two approvals and one gateway at the most verbose log level, for the whole module."""
    return start_stack(
        approvals=2,
        gateways=1,
        env={"APPROVAL_PUBLIC_URL": PUBLIC_URL, "LOG_LEVEL": "debug"},
    )


async def line_of(service: ServiceProcess, event: str, **having: object) -> dict[str, Any]:
    """Wait for the only line of its kind."""
    (line,) = await wait_for_log(service, event, **having)
    return line


class TestConnectionLine:
    @pytest.mark.parametrize("profile", [CLI, CLI_3, CONTROL_UI, NODE_HOST])
    async def test_the_line_of_a_refusal_says_what_to_do_as_approval_does(
        self, stack: Stack, profile: Profile
    ) -> None:
        (gateway,) = stack.gateways
        device = SimulatedDevice(stack, profile)
        refused = await device.expect_refusal(gateway)
        line = await line_of(gateway, "connection", connection=refused.connection_id)
        assert (line["code"], line["reason"]) == (1008, "pairing required")
        assert line["outcome"] == "pairing-required"
        assert line["why"] == "not-paired"
        assert line["request_id"] == refused.request_id
        assert line["approve_at"] == PUBLIC_URL
        assert (line["client"], line["mode"]) == (profile.client_id, profile.mode)
        assert line["protocol"] == profile.max_protocol
        assert line["device"] == device.device_id
        assert line["address"] == "127.0.0.1"
        assert line["ms"] > 0
        assert line["replica"] == gateway.boot_id

        def asked() -> list[dict[str, Any]]:
            return [
                question
                for approval in stack.approvals
                for question in log_lines(approval, "question", connection=refused.connection_id)
            ]

        await until(asked, "approval's line is written")
        (question,) = asked()
        assert question["request_id"] == refused.request_id
        assert (question["device"], question["verdict"]) == (device.device_id, "not-paired")
        assert question["role"] == (profile.role or "operator")

    async def test_the_line_of_an_admission_names_the_device_and_method(self, stack: Stack) -> None:
        (gateway,) = stack.gateways
        device = await pair(stack)
        for mode, method in ((True, "token"), (False, "device-token")):
            admitted = await device.connect_once(gateway, with_gateway_token=mode)
            line = await line_of(gateway, "connection", connection=admitted.connection_id)
            assert line["outcome"] == "admitted"
            assert (line["role"], line["method"]) == ("operator", method)
            assert line["device"] == device.device_id
            assert "reason" not in line

    async def test_each_attempt_has_one_line_however_it_ended(self, stack: Stack) -> None:
        (gateway,) = stack.gateways
        before = Counter(line["outcome"] for line in log_lines(gateway, "connection"))
        paired = await pair(stack)
        expected = Counter({"pairing-required": 1, "admitted": 1})  # what pairing took
        for _ in range(3):
            await paired.connect_once(gateway)
            await SimulatedDevice(stack).request_pairing(gateway)
            await self._send(gateway, b"nonsense")
            await self._send(gateway, b"[]")
            await self._send(gateway, b"x" * 70_000)
            await self._send(gateway, None)
            await self._comes_with(gateway, None, Credentials(token="wrong"))
            await self._comes_with(gateway, DeviceKey.generate(), Credentials())
            expected += Counter(
                dict.fromkeys(
                    (
                        *("admitted", "pairing-required", "not-json", "invalid-frame"),
                        *("too-big", "gone", "token-mismatch", "token-missing"),
                    ),
                    1,
                )
            )

        def written() -> Counter[str]:
            return Counter(line["outcome"] for line in log_lines(gateway, "connection")) - before

        await until(lambda: written().total() >= expected.total(), "all lines are written")
        assert written() == expected
        ids = [line["connection"] for line in log_lines(gateway, "connection")]
        assert len(set(ids)) == len(ids)

    async def _send(self, gateway: ServiceProcess, frame: bytes | None) -> None:
        async with await RawSocket.open(gateway.port) as raw:
            await raw.challenge()
            if frame is not None:
                await raw.send(frame)
                await raw.closed()

    async def _comes_with(
        self, gateway: ServiceProcess, key: DeviceKey | None, credentials: Credentials
    ) -> None:
        async with DeviceClient(gateway.ws_url, key, credentials=credentials) as client:
            assert not isinstance(await client.connect(), Admitted)

    async def test_what_a_client_says_of_itself_forges_no_line(self, stack: Stack) -> None:
        (gateway,) = stack.gateways
        async with await RawSocket.open(gateway.port) as raw:
            await raw.challenge()
            frame = raw.connect_frame(
                DeviceKey.generate(), CLI, Credentials(token=stack.gateway_token)
            )
            forged = '\n{"event":"connection","outcome":"admitted"}\x1b[2J\u202e'
            frame["params"]["device"]["id"] = forged
            await raw.send_json(frame)
            answer = await raw.receive_text()
        connection_id = answer["error"]["details"]["connectionId"]
        line = await line_of(gateway, "connection", connection=connection_id)
        assert line["outcome"] == "device-id-mismatch"
        assert line["device"].startswith("\\u000a{")
        for raw_line in gateway.log.read_text().splitlines():
            assert raw_line.isprintable()

    async def test_every_line_has_what_a_search_needs(self, stack: Stack) -> None:
        for service in stack.services:
            for line in service.logs():
                assert line.keys() >= REQUIRED
                assert line["service"] in {"gateway", "approval"}


class TestSecretsAreNowhereInOutput:
    async def test_no_secret_is_in_any_log_metric_or_answer(self, stack: Stack) -> None:
        (gateway,) = stack.gateways
        seen: list[str] = []
        secrets = dict(stack._secrets)
        devices = [await pair(stack, profile) for profile in (CLI, CLI_3, NODE_HOST, CONTROL_UI)]
        for device in devices:
            secrets[f"device token of {device.profile.client_id}"] = device.token
            await device.connect_once(gateway, with_gateway_token=False)
        await self._misuse(stack, devices[0], seen)
        stack.redis.call("DEL", guard_key("127.0.0.1"))  # the misuse above has locked it out
        async with Operator(stack, stack.approvals[0]) as operator:
            device_id = devices[0].device_id
            seen.append(str((await operator.rotate(device_id)).body))
            await devices[0].connect_once(gateway)
            secrets["rotated device token"] = devices[0].token
            seen += [
                str((await operator.call("GET", path)).body)
                for path in ("devices", "requests", "audit", f"devices/{device_id}", "nothing")
            ]
            seen.append(str((await operator.revoke(device_id)).body))
            seen.append(str((await operator.remove(device_id)).body))
        for approval in stack.approvals:
            approval.terminate()
        await asyncio.gather(*(approval.until_ended() for approval in stack.approvals))
        refused = await devices[1].expect_refusal(gateway)
        assert refused.code == "UNAVAILABLE"
        stack.redis.kill9()
        await gateway.until_not_ready()
        await devices[1].expect_refusal(gateway, with_gateway_token=False)
        async with aiohttp.ClientSession() as http:
            for page in ("/metrics", "/readyz", "/"):
                async with http.get(gateway.url + page) as answer:
                    seen.append(await answer.text())
        gateway.terminate()
        assert await gateway.until_ended() == 0
        seen += [service.log_text() for service in stack.services]
        assert all(secrets.values())
        everything = "\n".join(seen)
        assert len(everything) > 10_000
        assert "connection" in everything
        for name, secret in secrets.items():
            assert secret not in everything, name

    async def _misuse(self, stack: Stack, device: SimulatedDevice, seen: list[str]) -> None:
        """Send secrets in the wrong places, and collect the answers."""
        (gateway,) = stack.gateways
        token, admin = stack.gateway_token, stack.admin_token
        for credentials in (
            Credentials(device_token=token),
            Credentials(token="wrong", device_token=device.token),
            Credentials(token=device.token),
            Credentials(password=device.token),
            Credentials(bootstrap_token=token),
            Credentials(token=admin),
        ):
            for key in (device.key, DeviceKey.generate(), None):
                async with DeviceClient(gateway.ws_url, key, credentials=credentials) as client:
                    outcome = await client.connect()
                    if not isinstance(outcome, Admitted):
                        seen.append(f"{outcome.error} {outcome.close}")
        async with aiohttp.ClientSession() as http:
            for service, secret in (
                (gateway, token),
                *((approval, admin) for approval in stack.approvals),
            ):
                for call in (
                    http.get(f"{service.url}/?token={secret}"),
                    http.get(f"{service.url}/{secret}"),
                    http.get(f"{service.url}/v1/devices", headers={"Authorization": secret}),
                    http.get(f"{service.url}/v1/x", headers={"Authorization": f"Bearer {secret}"}),
                    http.post(f"{service.url}/v1/requests/{secret}/approve"),
                ):
                    async with call as answer:
                        seen.append(f"{answer.headers} {await answer.text()}")
        for service, secret in ((gateway, token), (stack.approvals[0], admin)):
            async with await RawSocket.tcp(service.port) as raw:
                await raw.send_bytes(f"GET /{secret} HTTP/9\r\nX: {secret}\r\n\r\n".encode())
                # Input that is not HTTP is echoed only to its own sender.
                assert (await raw.read_to_end()).startswith(b"HTTP/1.0 400 ")
        async with await RawSocket.open(gateway.port, path=f"/?token={token}") as raw:
            await raw.challenge()
            await raw.send(token.encode())
            await raw.closed()
