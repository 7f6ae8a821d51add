"""Devices connected through a gateway to the upstream, a stub that speaks OpenClaw's protocol."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import pytest

from shared.device.handshake import Admitted
from shared.device.profile import CLI_3
from shared.upstream import CLIENT_USER, RELAY_USER
from tests.e2e.metrics import fresh_metrics
from tests.e2e.relay.devices import new_device
from tests.e2e.relay.openclaw.relayed import NAMES, joined
from tools.support.stub_openclaw import FRAME_LIMIT_BYTES, METHODS, VERSION
from tools.support.waiting import until

if TYPE_CHECKING:
    from tools.support.actors import Operator
    from tools.support.processes.stack import Stack
    from tools.support.stub_openclaw import StubOpenClaw

STORM_DEVICES: Final = 40
FRAMES_AND_BYTES: Final = ("frames", "bytes")
WAYS: Final = ("up", "down")


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

    async def test_an_operator_of_protocol_3_is_refused_before_it_is_asked_to_pair(
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
            return await fresh_metrics(gateway, [*names, joins])

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

    async def test_an_upstream_message_beyond_the_limit_closes_the_client_with_1009(
        self, stack: Stack, operator: Operator, upstream: StubOpenClaw
    ) -> None:
        _device, client, session = await joined(stack, operator, upstream)
        with suppress(ConnectionError):
            upstream.send(session, "x" * (FRAME_LIMIT_BYTES + 1))
        closed = await client.closed()
        assert (closed.code, closed.reason) == (1009, "")

    async def test_the_upstream_session_is_closed_when_the_client_disconnects(
        self, stack: Stack, operator: Operator, upstream: StubOpenClaw
    ) -> None:
        _device, client, session = await joined(stack, operator, upstream)
        await client.close()
        await until(lambda: session.closed is not None, "the upstream follows")
        assert session.closed == 1000
