"""Upstreams that are away, slow, wrong about the time, or not trusted."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from shared.device.client import DeviceClient
from shared.device.handshake import Admitted, Challenge, Refused, connect_request
from shared.upstream import COMMAND_USER
from tests.e2e.command.terminal import Terminal
from tests.e2e.metrics import fresh_metrics
from tests.e2e.relay.devices import CLIENTS, new_device
from tests.e2e.relay.openclaw.relayed import NAMES, joined, relayed_stack
from tools.support.actors import Operator, wait_for_log
from tools.support.stub_openclaw import stub_openclaw
from tools.support.waiting import WAIT_SECONDS, until

if TYPE_CHECKING:
    from tests.conftest import StartStack
    from tools.support.processes.stack import Stack
    from tools.support.stub_openclaw import StubOpenClaw

TLS: Final = Path(__file__).parents[3] / "integration" / "bus" / "tls"


class TestOutage:
    async def test_devices_can_still_request_pairing_when_the_upstream_sends_no_challenge(
        self, stack: Stack, operator: Operator, upstream: StubOpenClaw
    ) -> None:
        known, client, _session = await joined(stack, operator, upstream)
        await client.close()
        upstream.silent = True
        refused = await known.expect_refusal(stack.gateways[0])
        assert refused.code == "UNAVAILABLE"
        newcomer = new_device(stack)
        assert (await newcomer.expect_refusal(stack.gateways[0])).detail_code == "PAIRING_REQUIRED"
        upstream.silent = False
        client, _admitted = await known.connect_when_ready(stack.gateways[0])
        await client.close()

    async def test_a_slow_approval_of_a_device_there_is_no_outage(
        self, stack: Stack, operator: Operator, upstream: StubOpenClaw
    ) -> None:
        gateway, outages = stack.gateways[0], ["latchkey_gateway_upstream_outages_total"]
        device, client, _session = await joined(stack, operator, upstream)
        await client.close()
        upstream.paired.discard(device.device_id)
        before = await fresh_metrics(gateway, outages)
        client = device.client(gateway)
        challenge = await client.challenge()
        assert isinstance(challenge, Challenge)
        upstream.silent = True  # towards the gateway, which now has to approve the device
        connect = connect_request(challenge, device.key, device.profile, client.credentials)
        refused = await client.handshake(connect)
        assert isinstance(refused, Refused)
        assert refused.code == "UNAVAILABLE"
        assert await fresh_metrics(gateway, outages) == before

    @pytest.mark.parametrize("crosses_the_challenge", [False, True])
    async def test_a_dashboard_that_does_not_wait_for_a_slow_upstream_is_asked_to_retry(
        self,
        stack: Stack,
        operator: Operator,
        upstream: StubOpenClaw,
        *,
        crosses_the_challenge: bool,
    ) -> None:
        device, client, _session = await joined(stack, operator, upstream)
        await client.close()
        upstream.silent = True
        client = device.client(stack.gateways[0])
        await client.open()
        if crosses_the_challenge:
            await client.challenge()
        frame = connect_request(Challenge("", 0), device.key, device.profile, client.credentials)
        refused = await client.handshake(frame)
        assert isinstance(refused, Refused)
        assert (refused.code, refused.details["reason"]) == ("UNAVAILABLE", "startup-sidecars")
        assert refused.close is not None
        assert refused.close.code == 1013

    async def test_a_clock_that_is_wrong_is_a_steady_state_and_refuses_nobody(
        self, start_stack: StartStack
    ) -> None:
        with stub_openclaw(NAMES.user) as upstream:
            upstream.clock_ahead_ms = 300_000
            stack = relayed_stack(start_stack, upstream.url)
            gateway = stack.gateways[0]
            device = new_device(stack)
            async with Operator(stack, stack.approvals[0]) as operator:
                (await operator.approve(await device.request_pairing(gateway))).ok()
                for _ in range(2):
                    refused = await device.expect_refusal(gateway)
                    assert (refused.code, refused.retry_after_ms) == ("UNAVAILABLE", 2_000)
                    answered = upstream.answered
                    await until(lambda: upstream.answered > answered, "the gateway probes")  # noqa: B023
                found: dict[str, Any] = {}
                async with asyncio.timeout(WAIT_SECONDS):
                    while "upstream-clock" not in found.get("problems", ()):
                        (seen,) = (await operator.call("GET", "replicas")).ok()["gateways"]
                        found = seen["upstream"]
            assert found["reachable"]
            assert found["reason"].startswith("its clock differs by ")
            said = await Terminal(stack).run("upstream", "check")
            assert "upstream-clock" in said.out
            assert "its clock differs by " in said.out
            upstream.clock_ahead_ms = 0
            client, _admitted = await device.connect_when_ready(gateway)
            await client.close()
        await wait_for_log(gateway, "upstream.clock_agrees")
        events = [line["event"] for line in gateway.logs()]
        assert events.count("upstream.clock_differs") == 1
        assert not {"upstream.lost", "upstream.back"} & set(events)

    async def test_command_lines_without_a_device_are_connected_by_any_clock(
        self, start_stack: StartStack
    ) -> None:
        """They sign nothing, so the time in the upstream's challenge does not matter to them."""
        with stub_openclaw(NAMES.user) as upstream:
            upstream.clock_ahead_ms = -300_000
            stack = relayed_stack(start_stack, upstream.url)
            gateway = stack.gateways[0]
            command = DeviceClient(gateway.ws_url, None, token=stack.gateway_token)
            CLIENTS.append(command)
            assert isinstance(await command.connect(), Admitted)
            (session,) = (one for one in upstream.sessions if one.user == COMMAND_USER)
            assert "device" not in session.params
            await wait_for_log(gateway, "upstream.clock_differs", upstream_is="behind")

    async def test_without_an_upstream_admitted_devices_are_asked_to_retry(
        self, start_stack: StartStack
    ) -> None:
        with stub_openclaw(NAMES.user) as gone:
            url, port = gone.url, gone.port
        alone = relayed_stack(start_stack, url)
        device = new_device(alone)
        async with Operator(alone, alone.approvals[0]) as operator:
            (await operator.approve(await device.request_pairing(alone.gateways[0]))).ok()
        refused = await device.expect_refusal(alone.gateways[0])
        assert refused.code == "UNAVAILABLE"
        assert refused.close is not None
        assert refused.close.code == 1013
        answer = alone.gateways[0].ready_answer()
        assert answer is not None
        assert answer.ready
        with stub_openclaw(NAMES.user, port):
            client, _admitted = await device.connect_when_ready(alone.gateways[0])
            await client.close()


class TestTls:
    @pytest.mark.parametrize("trusted", [True, False])
    async def test_frames_pass_only_if_the_certificate_is_trusted(
        self, start_stack: StartStack, *, trusted: bool
    ) -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(TLS / "certificate.pem", TLS / "key.pem")
        with stub_openclaw(NAMES.user, tls=context) as upstream:
            certificate = str(TLS / "certificate.pem") if trusted else ""
            stack = relayed_stack(start_stack, upstream.url, certificate=certificate)
            gateway = stack.gateways[0]
            async with Operator(stack, stack.approvals[0]) as operator:
                if trusted:
                    _device, client, _session = await joined(stack, operator, upstream)
                    text = "a" * 1_000_000
                    answer = await client.call("chat.send", {"text": text})
                    assert answer.payload["bytes"] > len(text)
                    await client.close()
                else:
                    device = new_device(stack)
                    (await operator.approve(await device.request_pairing(gateway))).ok()
                    refusals = [await device.expect_refusal(gateway) for _ in range(2)]
                    assert {refused.code for refused in refusals} == {"UNAVAILABLE"}
                    assert upstream.sessions == []
            gateway.terminate()  # before the stub, which would leave a handshake half done
            await gateway.until_ended()
