"""The relay: real services and devices, and a stub of OpenClaw's protocol as the upstream."""

from __future__ import annotations

import asyncio
import json
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from shared.device.client import DeviceClient
from shared.device.handshake import Admitted
from shared.device.profile import CLI
from shared.upstream import CLIENT_USER, RELAY_USER, header_names
from tests.support.stub_openclaw import FRAME_LIMIT_BYTES, METHODS, VERSION, stub_openclaw
from tools.support.people import Operator, Visitor
from tools.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.conftest import StartStack
    from tests.support.stub_openclaw import Session, StubOpenClaw
    from tools.support.service import ServiceProcess
    from tools.support.stack import Stack

SECRET: Final = "the-upstream-secret-of-these-tests"
NAMES: Final = header_names(SECRET)
STORM_DEVICES: Final = 40
TLS: Final = Path(__file__).parents[1] / "integration" / "bus" / "tls"
_CLIENTS: Final[list[DeviceClient]] = []


@pytest.fixture(scope="module")
def upstream() -> Iterator[StubOpenClaw]:
    """One upstream."""
    with stub_openclaw(NAMES.user) as stub:
        yield stub


@pytest.fixture(scope="module")
def house(start_stack: StartStack, upstream: StubOpenClaw) -> Stack:
    """Two gateways before the upstream. Each client's address is what it says it is."""
    return start_stack(
        gateways=2,
        env={"TRUSTED_PROXIES": "127.0.0.0/8"},
        gateway_env={"UPSTREAM_URL": upstream.url, "UPSTREAM_SECRET": SECRET},
    )


@pytest.fixture
async def operator(house: Stack) -> AsyncIterator[Operator]:
    """Return an operator."""
    async with Operator(house, house.approvals[0]) as one:
        yield one


@pytest.fixture(autouse=True)
async def clean(upstream: StubOpenClaw) -> AsyncIterator[None]:
    """Begin with an upstream that refuses nobody, and leave no connection open."""
    upstream.refusal, upstream.silent = None, False
    upstream.reads.set()
    yield
    while _CLIENTS:
        await _CLIENTS.pop().close()


class RelayedDevice(Visitor):
    """A device behind a proxy that names its address."""

    address = "198.51.100.7"

    def client(self, gateway: ServiceProcess, *, with_gateway_token: bool = True) -> DeviceClient:
        """Return a connection to be made from that address."""
        made = DeviceClient(
            gateway.ws_url,
            self.key,
            self.profile,
            token=self.stack.gateway_token if with_gateway_token else None,
            device_token=None if with_gateway_token else self.token,
            headers={"X-Forwarded-For": self.address, "X-OpenClaw-Scopes": "operator.admin"},
        )
        _CLIENTS.append(made)
        return made

    async def joins(self, gateway: ServiceProcess, **how: bool) -> tuple[DeviceClient, Admitted]:
        """Connect as clients do: come back for as long as the gateway says that it is starting."""
        deadline = asyncio.get_running_loop().time() + 15
        while True:
            client = self.client(gateway, **how)
            outcome = await client.connect()
            if isinstance(outcome, Admitted):
                self.token = outcome.device_token
                return client, outcome
            await client.close()
            assert outcome.code == "UNAVAILABLE", outcome
            assert outcome.details["reason"] == "startup-sidecars", outcome
            assert asyncio.get_running_loop().time() < deadline, outcome
            await asyncio.sleep((outcome.retry_after_ms or 100) / 1000)


_ADDRESSES: Final = (f"198.51.{a}.{b}" for a in range(100, 200) for b in range(1, 250))


def device(stack: Stack, *scopes: str) -> RelayedDevice:
    """Return a new device at an address of its own."""
    made = RelayedDevice(stack, profile=CLI.asking(*scopes) if scopes else CLI)
    made.address = next(_ADDRESSES)
    return made


async def joined(
    house: Stack, operator: Operator, upstream: StubOpenClaw, *scopes: str, gateway: int = 0
) -> tuple[RelayedDevice, DeviceClient, Session]:
    """Return a device that was approved and is connected, and its session at the upstream."""
    one = device(house, *scopes)
    (await operator.approve(await one.waits(house.gateways[gateway]))).ok()
    client, _admitted = await one.joins(house.gateways[gateway])
    session = next(
        each
        for each in reversed(upstream.clients)
        if each.params.get("device", {}).get("id") == one.device_id
    )
    return one, client, session


class TestJoining:
    async def test_hello_is_the_upstreams_with_our_token_and_our_device_methods(
        self, house: Stack, operator: Operator, upstream: StubOpenClaw
    ) -> None:
        one = device(house, "operator.read")
        (await operator.approve(await one.waits(house.gateways[0]))).ok()
        client, admitted = await one.joins(house.gateways[0])
        hello = admitted.hello
        assert hello["server"]["version"] == VERSION
        assert hello["server"]["buildId"] == "of-the-upstream"
        assert hello["auth"]["deviceToken"] not in {"", "the-upstreams-own"}
        assert hello["auth"]["method"] == "token"
        assert set(hello["auth"]) == {"method", "role", "scopes", "deviceToken", "issuedAtMs"}
        assert set(METHODS) <= set(hello["features"]["methods"])
        assert "device.pair.approve" in hello["features"]["methods"]
        await client.close()

    async def test_the_upstream_gets_the_proof_and_none_of_the_secrets_beside_it(
        self, house: Stack, operator: Operator, upstream: StubOpenClaw
    ) -> None:
        one, client, session = await joined(house, operator, upstream)
        assert session.params["device"]["id"] == one.device_id
        assert "password" not in session.params["auth"]
        headers = {name.lower(): value for name, value in session.headers.items()}
        assert headers[NAMES.user] == CLIENT_USER
        assert NAMES.required in headers
        assert headers["x-forwarded-for"] == one.address
        assert "x-openclaw-scopes" not in headers
        await client.close()

    async def test_one_approval_here_pairs_the_device_upstream(
        self, house: Stack, operator: Operator, upstream: StubOpenClaw
    ) -> None:
        one, client, _session = await joined(house, operator, upstream)
        assert one.device_id in upstream.paired
        approvers = [each for each in upstream.sessions if each.user == RELAY_USER]
        assert "device" not in approvers[-1].params
        await client.close()

    async def test_it_joins_at_any_gateway_and_with_its_device_token_alone(
        self, house: Stack, operator: Operator, upstream: StubOpenClaw
    ) -> None:
        one, client, _session = await joined(house, operator, upstream)
        await client.close()
        client, admitted = await one.joins(house.gateways[1], with_gateway_token=False)
        assert admitted.hello["auth"]["method"] == "device-token"
        await client.close()

    async def test_an_upstream_that_refuses_an_admitted_device_is_never_quoted(
        self, house: Stack, operator: Operator, upstream: StubOpenClaw
    ) -> None:
        one, client, _session = await joined(house, operator, upstream)
        await client.close()
        upstream.refusal = {
            "code": "INVALID_REQUEST",
            "message": "unauthorized: device token mismatch",
            "details": {"code": "AUTH_DEVICE_TOKEN_MISMATCH"},
        }
        refused = await one.refused(house.gateways[0])
        assert refused.code == "UNAVAILABLE"
        assert refused.close is not None
        assert refused.close.code == 1013
        assert "AUTH_" not in json.dumps(refused.details)


class TestShield:
    async def test_a_storm_of_unpaired_devices_opens_no_upstream_socket(
        self, house: Stack, upstream: StubOpenClaw
    ) -> None:
        before = len(upstream.clients)
        storm = [device(house) for _ in range(STORM_DEVICES)]
        for number, one in enumerate(storm):
            refused = await one.refused(house.gateways[number % 2])
            assert refused.detail_code == "PAIRING_REQUIRED"
        assert len(upstream.clients) == before

    async def test_an_address_known_at_one_gateway_is_known_at_the_other(
        self, house: Stack, operator: Operator, upstream: StubOpenClaw
    ) -> None:
        one, client, _session = await joined(house, operator, upstream, gateway=0)
        await client.close()
        first = await one.client(house.gateways[1]).connect()
        assert isinstance(first, Admitted), first


class TestFrames:
    async def test_calls_pass_to_the_upstream_and_device_methods_are_served_here(
        self, house: Stack, operator: Operator, upstream: StubOpenClaw
    ) -> None:
        one, client, session = await joined(house, operator, upstream, "operator.admin")
        answer = await client.call("chat.send", {"text": "hello, dev\u00efce."})
        assert answer.payload["from"] == "upstream"
        listed = await client.call("device.pair.list", {})
        assert one.device_id in {each["deviceId"] for each in listed.payload["paired"]}
        assert all("device.pair" not in frame for frame in session.frames)
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
        self, house: Stack, operator: Operator, upstream: StubOpenClaw, frame: str
    ) -> None:
        _one, client, session = await joined(house, operator, upstream, "operator.admin")
        await client.send_text(frame)
        response = await client.next_stray()
        assert "paired" in (response.payload or {}), response
        assert session.frames == []
        await client.close()

    async def test_a_frame_that_may_name_a_device_method_and_cannot_be_read_is_refused(
        self, house: Stack, operator: Operator, upstream: StubOpenClaw
    ) -> None:
        _one, client, session = await joined(house, operator, upstream)
        await client.send_text('{"type":"req","id":"x","method":"device.pair.list",')
        response = await client.next_stray()
        assert (response.id, response.ok) == ("invalid", False)
        assert session.frames == []
        await client.close()

    async def test_upstream_events_pass_and_its_pairing_events_keep_only_their_number(
        self, house: Stack, operator: Operator, upstream: StubOpenClaw
    ) -> None:
        _one, client, session = await joined(house, operator, upstream)
        upstream.send(session, '{"type":"event","event":"chat","payload":{"n":1},"seq":1}')
        upstream.send(
            session,
            '{"type":"event","event":"device.pair.requested","payload":{"secret":1},"seq":2}',
        )
        first, second = await client.next_event(), await client.next_event()
        assert (first.name, first.payload, first.seq) == ("chat", {"n": 1}, 1)
        assert (second.name, second.payload, second.seq) == ("device.pair.changed", {}, 2)
        await client.close()

    async def test_binary_from_a_client_closes_it_with_1003(
        self, house: Stack, operator: Operator, upstream: StubOpenClaw
    ) -> None:
        _one, client, _session = await joined(house, operator, upstream)
        await client.send_bytes(b"\x00")
        assert (await client.closed()).code == 1003

    async def test_the_largest_frame_passes_both_ways(
        self, house: Stack, operator: Operator, upstream: StubOpenClaw
    ) -> None:
        _one, client, session = await joined(house, operator, upstream)
        envelope = '{"type":"req","id":"x","method":"chat.send","params":{"text":""}}'
        text = "a" * (FRAME_LIMIT_BYTES - len(envelope))
        await client.send_text(envelope.replace('""', f'"{text}"'))
        response = await client.next_stray()
        assert response.payload["bytes"] == FRAME_LIMIT_BYTES
        upstream.send(session, f'{{"type":"event","event":"chat","payload":"{text}","seq":1}}')
        event = await client.next_event()
        assert len(event.payload) == len(text)
        await client.close()


class TestEnds:
    async def test_a_removed_device_is_closed_with_4001_and_forgotten_upstream(
        self, house: Stack, operator: Operator, upstream: StubOpenClaw
    ) -> None:
        one, client, session = await joined(house, operator, upstream, gateway=1)
        assert one.device_id in upstream.paired
        (await operator.remove(one.device_id)).ok()
        assert (await client.closed()).code == 4001
        await until(lambda: session.closed is not None, "the upstream to follow")
        await until(lambda: one.device_id not in upstream.paired, "the upstream to follow")
        refused = await one.refused(house.gateways[0])
        assert refused.detail_code == "PAIRING_REQUIRED"

    @pytest.mark.parametrize(
        ("theirs", "ours"), [(1000, 1000), (1008, 1008), (1012, 1012), (1013, 1013), (3000, 1012)]
    )
    async def test_an_upstream_close_reaches_the_client(
        self, house: Stack, operator: Operator, upstream: StubOpenClaw, theirs: int, ours: int
    ) -> None:
        _one, client, session = await joined(house, operator, upstream)
        upstream.close(session, theirs, "as the upstream says")
        closed = await client.closed()
        assert closed.code == ours
        assert closed.reason == ("service restart" if theirs == 3000 else "as the upstream says")

    async def test_an_upstream_that_vanishes_is_a_restart(
        self, house: Stack, operator: Operator, upstream: StubOpenClaw
    ) -> None:
        _one, client, session = await joined(house, operator, upstream)
        upstream.cut(session)
        closed = await client.closed()
        assert (closed.code, closed.reason) == (1012, "service restart")

    async def test_the_upstream_side_ends_with_the_client(
        self, house: Stack, operator: Operator, upstream: StubOpenClaw
    ) -> None:
        _one, client, session = await joined(house, operator, upstream)
        await client.close()
        await until(lambda: session.closed is not None, "the upstream to follow")
        assert session.closed == 1000


class TestOutage:
    async def test_an_upstream_that_sends_no_challenge_stops_nobody_from_pairing(
        self, house: Stack, operator: Operator, upstream: StubOpenClaw
    ) -> None:
        known, client, _session = await joined(house, operator, upstream)
        await client.close()
        upstream.silent = True
        refused = await known.refused(house.gateways[0])
        assert refused.code == "UNAVAILABLE"
        newcomer = device(house)
        assert (await newcomer.refused(house.gateways[0])).detail_code == "PAIRING_REQUIRED"
        upstream.silent = False
        client, _admitted = await known.joins(house.gateways[0])
        await client.close()

    async def test_without_an_upstream_the_admitted_are_told_to_come_back(
        self, start_stack: StartStack
    ) -> None:
        with stub_openclaw(NAMES.user) as gone:
            url, port = gone.url, gone.port
        alone = start_stack(
            gateways=1,
            env={"TRUSTED_PROXIES": "127.0.0.0/8"},
            gateway_env={"UPSTREAM_URL": url, "UPSTREAM_SECRET": SECRET},
        )
        one = device(alone)
        async with Operator(alone, alone.approvals[0]) as operator:
            (await operator.approve(await one.waits(alone.gateways[0]))).ok()
        refused = await one.refused(alone.gateways[0])
        assert refused.code == "UNAVAILABLE"
        assert refused.close is not None
        assert refused.close.code == 1013
        answer = alone.gateways[0].ready_answer()
        assert answer is not None
        assert answer.ready
        with stub_openclaw(NAMES.user, port):
            client, _admitted = await one.joins(alone.gateways[0])
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
                    _one, client, _session = await joined(stack, operator, upstream)
                    text = "a" * 1_000_000
                    answer = await client.call("chat.send", {"text": text})
                    assert answer.payload["bytes"] > len(text)
                    await client.close()
                else:
                    one = device(stack)
                    (await operator.approve(await one.waits(gateway))).ok()
                    refusals = [await one.refused(gateway) for _ in range(2)]
                    assert {refused.code for refused in refusals} == {"UNAVAILABLE"}
                    assert upstream.sessions == []
            gateway.terminate()  # before the stub, which would leave a handshake half done
            await gateway.until_ended()
