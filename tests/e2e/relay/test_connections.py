"""Devices connected through a gateway to the upstream, a stub that speaks OpenClaw's protocol."""

from __future__ import annotations

import asyncio
import json
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from shared.device.client import DeviceClient
from shared.device.handshake import Admitted, Challenge, Refused, connect_request
from shared.device.profile import CLI_3
from shared.observability.ops import METRICS_SECONDS
from shared.upstream import CLIENT_USER, COMMAND_USER, RELAY_USER, header_names
from tests.e2e.command.terminal import Terminal
from tests.e2e.metrics import metric
from tests.e2e.relay.devices import CLIENTS, RelayedDevice, new_device
from tests.e2e.relay.upstream import SECRET
from tools.support.actors import Operator, wait_for_log
from tools.support.stub_openclaw import FRAME_LIMIT_BYTES, METHODS, VERSION, stub_openclaw
from tools.support.waiting import WAIT_SECONDS, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.conftest import StartStack
    from tools.support.processes.stack import Stack
    from tools.support.stub_openclaw import Session, StubOpenClaw

NAMES: Final = header_names(SECRET)
STORM_DEVICES: Final = 40
FRAMES_AND_BYTES: Final = ("frames", "bytes")
WAYS: Final = ("up", "down")
TLS: Final = Path(__file__).parents[2] / "integration" / "bus" / "tls"


@pytest.fixture(scope="module")
def upstream() -> Iterator[StubOpenClaw]:
    """One upstream."""
    with stub_openclaw(NAMES.user) as stub:
        yield stub


@pytest.fixture(scope="module")
def stack(start_stack: StartStack, upstream: StubOpenClaw) -> Stack:
    """Two gateways with the upstream, which trust the client address in X-Forwarded-For."""
    return start_stack(
        gateways=2,
        env={"TRUSTED_PROXIES": "127.0.0.0/8"},
        gateway_env={"UPSTREAM_URL": upstream.url, "UPSTREAM_SECRET": SECRET},
    )


@pytest.fixture(autouse=True)
async def _clean(upstream: StubOpenClaw) -> AsyncIterator[None]:
    """Start with an upstream that refuses no client; close all connections afterwards."""
    upstream.refusal, upstream.silent = None, False
    upstream.reads.set()
    yield
    while CLIENTS:
        await CLIENTS.pop().close()


async def joined(
    stack: Stack, operator: Operator, upstream: StubOpenClaw, *scopes: str, gateway: int = 0
) -> tuple[RelayedDevice, DeviceClient, Session]:
    """Return an approved, connected device, its client, and its session at the upstream."""
    device = new_device(stack, *scopes)
    (await operator.approve(await device.request_pairing(stack.gateways[gateway]))).ok()
    client, _admitted = await device.connect_when_ready(stack.gateways[gateway])
    session = next(
        item
        for item in reversed(upstream.clients)
        if item.params.get("device", {}).get("id") == device.device_id
    )
    return device, client, session


class TestConnecting:
    async def test_hello_is_the_upstreams_with_our_device_token_and_device_methods(
        self, stack: Stack, operator: Operator, upstream: StubOpenClaw
    ) -> None:
        device = new_device(stack, "operator.read")
        (await operator.approve(await device.request_pairing(stack.gateways[0]))).ok()
        client, admitted = await device.connect_when_ready(stack.gateways[0])
        hello = admitted.hello
        assert hello["server"]["version"] == VERSION
        assert hello["server"]["buildId"] == "of-the-upstream"
        assert hello["auth"]["deviceToken"] not in {"", "the-upstreams-own"}
        assert hello["auth"]["method"] == "token"
        assert set(hello["auth"]) == {"method", "role", "scopes", "deviceToken", "issuedAtMs"}
        assert set(METHODS) <= set(hello["features"]["methods"])
        assert "device.pair.approve" in hello["features"]["methods"]
        await client.close()

    async def test_the_upstream_receives_the_device_proof_but_no_secret(
        self, stack: Stack, operator: Operator, upstream: StubOpenClaw
    ) -> None:
        device, client, session = await joined(stack, operator, upstream)
        assert session.params["device"]["id"] == device.device_id
        assert "password" not in session.params["auth"]
        headers = {name.lower(): value for name, value in session.headers.items()}
        assert headers[NAMES.user] == CLIENT_USER
        assert NAMES.required in headers
        assert headers["x-forwarded-for"] == device.address
        assert "x-openclaw-scopes" not in headers
        await client.close()

    async def test_approving_a_device_here_also_pairs_it_upstream(
        self, stack: Stack, operator: Operator, upstream: StubOpenClaw
    ) -> None:
        device, client, _session = await joined(stack, operator, upstream)
        assert device.device_id in upstream.paired
        approvers = [item for item in upstream.sessions if item.user == RELAY_USER]
        assert "device" not in approvers[-1].params
        await client.close()

    async def test_a_device_connects_at_any_gateway_with_its_device_token_alone(
        self, stack: Stack, operator: Operator, upstream: StubOpenClaw
    ) -> None:
        device, client, _session = await joined(stack, operator, upstream)
        await client.close()
        client, admitted = await device.connect_when_ready(
            stack.gateways[1], with_gateway_token=False
        )
        assert admitted.hello["auth"]["method"] == "device-token"
        await client.close()

    async def test_a_refusal_by_the_upstream_is_reported_as_unavailable_and_not_quoted(
        self, stack: Stack, operator: Operator, upstream: StubOpenClaw
    ) -> None:
        device, client, _session = await joined(stack, operator, upstream)
        await client.close()
        upstream.refusal = {
            "code": "INVALID_REQUEST",
            "message": "unauthorized: device token mismatch",
            "details": {"code": "AUTH_DEVICE_TOKEN_MISMATCH"},
        }
        refused = await device.expect_refusal(stack.gateways[0])
        assert refused.code == "UNAVAILABLE"
        assert refused.close is not None
        assert refused.close.code == 1013
        assert "AUTH_" not in json.dumps(refused.details)

    async def test_an_operator_of_protocol_3_hears_that_before_it_is_asked_to_pair(
        self, stack: Stack, operator: Operator, upstream: StubOpenClaw
    ) -> None:
        device = new_device(stack)
        device.profile = CLI_3
        before = len(upstream.clients)
        refused = await device.expect_refusal(stack.gateways[0])
        assert refused.detail_code == "PROTOCOL_MISMATCH"
        assert refused.close is not None
        assert refused.close.code == 1002
        pending = [one["deviceId"] for one in await operator.pending()]
        assert device.device_id not in pending
        assert len(upstream.clients) == before

    async def test_a_protocol_that_the_upstream_does_not_speak_is_named(
        self, stack: Stack, operator: Operator, upstream: StubOpenClaw
    ) -> None:
        device, client, _session = await joined(stack, operator, upstream)
        await client.close()
        details = {"code": "PROTOCOL_MISMATCH", "expectedProtocol": 4, "minimumProbeProtocol": 3}
        upstream.refusal = {
            "code": "INVALID_REQUEST",
            "message": "protocol mismatch",
            "details": details,
        }
        refused = await device.expect_refusal(stack.gateways[0])
        why = "protocol mismatch: the OpenClaw behind this gateway needs protocol 4"
        assert refused.message == why
        assert refused.details.items() >= details.items()
        assert refused.close is not None
        assert (refused.close.code, refused.close.reason) == (1002, why)


class TestUnknownDevices:
    async def test_a_storm_of_unpaired_devices_opens_no_upstream_socket(
        self, stack: Stack, upstream: StubOpenClaw
    ) -> None:
        before = len(upstream.clients)
        storm = [new_device(stack) for _ in range(STORM_DEVICES)]
        for number, device in enumerate(storm):
            refused = await device.expect_refusal(stack.gateways[number % 2])
            assert refused.detail_code == "PAIRING_REQUIRED"
        assert len(upstream.clients) == before

    async def test_an_address_known_at_one_gateway_is_known_at_the_other(
        self, stack: Stack, operator: Operator, upstream: StubOpenClaw
    ) -> None:
        device, client, _session = await joined(stack, operator, upstream, gateway=0)
        await client.close()
        first = await device.client(stack.gateways[1]).connect()
        assert isinstance(first, Admitted), first


class TestFrames:
    async def test_calls_pass_to_the_upstream_and_device_methods_are_served_here(
        self, stack: Stack, operator: Operator, upstream: StubOpenClaw
    ) -> None:
        device, client, session = await joined(stack, operator, upstream, "operator.admin")
        answer = await client.call("chat.send", {"text": "hello, dev\u00efce."})
        assert answer.payload["from"] == "upstream"
        listed = await client.call("device.pair.list", {})
        assert device.device_id in {item["deviceId"] for item in listed.payload["paired"]}
        assert all("device.pair" not in frame for frame in session.frames)
        await client.close()

    async def test_only_relayed_frames_are_counted_in_each_direction(
        self, stack: Stack, operator: Operator, upstream: StubOpenClaw
    ) -> None:
        _device, client, _session = await joined(stack, operator, upstream, "operator.admin")
        gateway = stack.gateways[0]

        async def counts() -> list[float]:
            frames, sizes = (f"latchkey_gateway_upstream_{kind}_total" for kind in FRAMES_AND_BYTES)
            names = [f'{name}{{direction="{way}"}}' for name in (frames, sizes) for way in WAYS]
            joins = "latchkey_gateway_upstream_seconds_count"
            await asyncio.sleep(METRICS_SECONDS)  # an earlier rendering may be served until then
            return [await metric(gateway, name) for name in (*names, joins)]

        before = await counts()
        await client.call("chat.send", {"text": "a" * 1000})
        await client.call("device.pair.list", {})
        after = await counts()
        more_up, more_down, bytes_up, bytes_down, _ = (
            now - then for now, then in zip(after, before, strict=True)
        )
        assert (more_up, more_down) == (1, 1)
        assert bytes_up > 1000 > bytes_down > 0
        assert after[-1] > 0
        await client.close()

    @pytest.mark.parametrize(
        "frame",
        [
            '{"type":"req","id":"x","method":"device\\u002epair.list","params":{}}',
            '{"type":"req","id":"x","method":"chat.send","method":"device.pair.list","params":{}}',
            '{"type":"req","id":"x","\\u006dethod":"device.pair.list","params":{}}',
        ],
    )
    async def test_no_spelling_of_a_device_method_reaches_the_upstream(
        self, stack: Stack, operator: Operator, upstream: StubOpenClaw, frame: str
    ) -> None:
        _device, client, session = await joined(stack, operator, upstream, "operator.admin")
        await client.send_text(frame)
        response = await client.next_stray()
        assert "paired" in (response.payload or {}), response
        assert session.frames == []
        await client.close()

    async def test_frames_sent_at_once_arrive_in_order_without_those_that_are_served_here(
        self, stack: Stack, operator: Operator, upstream: StubOpenClaw
    ) -> None:
        _device, client, session = await joined(stack, operator, upstream, "operator.admin")
        sizes = [10, 0, 200, 100_000, 3, 70_000, 300]
        call = '{"type":"req","id":"%s","method":"%s","params":{"text":"%s"}}'
        sent = [call % (n, "chat.send", "a" * size) for n, size in enumerate(sizes)]
        ours = call % ("ours", "device.pair.list", "")
        for text in [*sent[:4], ours, *sent[4:]]:
            await client.send_text(text)
        ids = {(await client.next_stray()).id for _ in range(len(sizes) + 1)}
        assert ids == {"ours", *map(str, range(len(sizes)))}
        assert session.frames == sent
        await client.close()

    async def test_an_unreadable_frame_that_may_name_a_device_method_is_refused(
        self, stack: Stack, operator: Operator, upstream: StubOpenClaw
    ) -> None:
        _device, client, session = await joined(stack, operator, upstream)
        await client.send_text('{"type":"req","id":"x","method":"device.pair.list",')
        response = await client.next_stray()
        assert (response.id, response.ok) == ("invalid", False)
        assert session.frames == []
        await client.close()

    async def test_upstream_events_pass_but_pairing_events_lose_their_payload(
        self, stack: Stack, operator: Operator, upstream: StubOpenClaw
    ) -> None:
        _device, client, session = await joined(stack, operator, upstream)
        upstream.send(session, '{"type":"event","event":"chat","payload":{"n":1},"seq":1}')
        upstream.send(
            session,
            '{"type":"event","event":"device.pair.requested","payload":{"secret":1},"seq":2}',
        )
        first, second = await client.next_event(), await client.next_event()
        assert (first.name, first.payload, first.seq) == ("chat", {"n": 1}, 1)
        assert (second.name, second.payload, second.seq) == ("device.pair.changed", {}, 2)
        await client.close()

    async def test_a_binary_message_from_a_client_closes_it_with_1003(
        self, stack: Stack, operator: Operator, upstream: StubOpenClaw
    ) -> None:
        _device, client, _session = await joined(stack, operator, upstream)
        await client.send_bytes(b"\x00")
        assert (await client.closed()).code == 1003

    async def test_the_largest_frame_passes_in_both_directions(
        self, stack: Stack, operator: Operator, upstream: StubOpenClaw
    ) -> None:
        _device, client, session = await joined(stack, operator, upstream)
        envelope = '{"type":"req","id":"x","method":"chat.send","params":{"text":""}}'
        text = "a" * (FRAME_LIMIT_BYTES - len(envelope))
        await client.send_text(envelope.replace('""', f'"{text}"'))
        response = await client.next_stray()
        assert response.payload["bytes"] == FRAME_LIMIT_BYTES
        upstream.send(session, f'{{"type":"event","event":"chat","payload":"{text}","seq":1}}')
        event = await client.next_event()
        assert len(event.payload) == len(text)
        await client.close()


class TestClosing:
    async def test_a_removed_device_is_closed_with_4001_and_forgotten_upstream(
        self, stack: Stack, operator: Operator, upstream: StubOpenClaw
    ) -> None:
        device, client, session = await joined(stack, operator, upstream, gateway=1)
        assert device.device_id in upstream.paired
        (await operator.remove(device.device_id)).ok()
        assert (await client.closed()).code == 4001
        await until(lambda: session.closed is not None, "the upstream follows")
        await until(lambda: device.device_id not in upstream.paired, "the upstream follows")
        refused = await device.expect_refusal(stack.gateways[0])
        assert refused.detail_code == "PAIRING_REQUIRED"

    @pytest.mark.parametrize(
        ("theirs", "ours"), [(1000, 1000), (1008, 1008), (1012, 1012), (1013, 1013), (3000, 1012)]
    )
    async def test_an_upstream_close_reaches_the_client(
        self, stack: Stack, operator: Operator, upstream: StubOpenClaw, theirs: int, ours: int
    ) -> None:
        _device, client, session = await joined(stack, operator, upstream)
        upstream.close(session, theirs, "as the upstream says")
        closed = await client.closed()
        assert closed.code == ours
        assert closed.reason == ("service restart" if theirs == 3000 else "as the upstream says")

    async def test_a_lost_upstream_connection_closes_the_client_with_1012(
        self, stack: Stack, operator: Operator, upstream: StubOpenClaw
    ) -> None:
        _device, client, session = await joined(stack, operator, upstream)
        upstream.cut(session)
        closed = await client.closed()
        assert (closed.code, closed.reason) == (1012, "service restart")

    async def test_the_upstream_session_is_closed_when_the_client_disconnects(
        self, stack: Stack, operator: Operator, upstream: StubOpenClaw
    ) -> None:
        _device, client, session = await joined(stack, operator, upstream)
        await client.close()
        await until(lambda: session.closed is not None, "the upstream follows")
        assert session.closed == 1000


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

    async def test_a_dashboard_that_does_not_wait_for_a_slow_upstream_is_told_to_retry(
        self, stack: Stack, operator: Operator, upstream: StubOpenClaw
    ) -> None:
        device, client, _session = await joined(stack, operator, upstream)
        await client.close()
        upstream.silent = True
        client = device.client(stack.gateways[0])
        await client.open()
        frame = connect_request(Challenge("", 0), device.key, device.profile, client.credentials)
        refused = await client.handshake(frame)
        assert isinstance(refused, Refused)
        assert (refused.code, refused.details["reason"]) == ("UNAVAILABLE", "startup-sidecars")
        assert refused.close is not None
        assert refused.close.code == 1013

    async def test_a_dashboards_connect_that_crosses_the_late_challenge_is_told_to_retry(
        self, stack: Stack, operator: Operator, upstream: StubOpenClaw
    ) -> None:
        device, client, _session = await joined(stack, operator, upstream)
        await client.close()
        upstream.silent = True
        client = device.client(stack.gateways[0])
        await client.open()
        await client.challenge()
        frame = connect_request(Challenge("", 0), device.key, device.profile, client.credentials)
        refused = await client.handshake(frame)
        assert isinstance(refused, Refused)
        assert (refused.code, refused.details["reason"]) == ("UNAVAILABLE", "startup-sidecars")

    async def test_a_clock_that_is_wrong_is_a_steady_state_and_refuses_nobody(
        self, start_stack: StartStack
    ) -> None:
        with stub_openclaw(NAMES.user) as upstream:
            upstream.clock_ahead_ms = 300_000
            stack = start_stack(
                gateways=1,
                env={"TRUSTED_PROXIES": "127.0.0.0/8"},
                gateway_env={"UPSTREAM_URL": upstream.url, "UPSTREAM_SECRET": SECRET},
            )
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
            stack = start_stack(
                gateways=1,
                gateway_env={"UPSTREAM_URL": upstream.url, "UPSTREAM_SECRET": SECRET},
            )
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
        alone = start_stack(
            gateways=1,
            env={"TRUSTED_PROXIES": "127.0.0.0/8"},
            gateway_env={"UPSTREAM_URL": url, "UPSTREAM_SECRET": SECRET},
        )
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
            stack = start_stack(
                gateways=1,
                env={"TRUSTED_PROXIES": "127.0.0.0/8"},
                gateway_env={
                    "UPSTREAM_URL": upstream.url,
                    "UPSTREAM_SECRET": SECRET,
                    **({"SSL_CERT_FILE": str(TLS / "certificate.pem")} if trusted else {}),
                },
            )
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
