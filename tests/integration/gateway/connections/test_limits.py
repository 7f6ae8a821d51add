"""Limits on sockets, and on frames sent ahead of hello-ok."""

from __future__ import annotations

import asyncio
import ipaddress
from typing import TYPE_CHECKING

import pytest

from shared.device.errors import UnreachableError
from shared.device.handshake import Admitted, Credentials
from shared.device.identity import DeviceKey
from shared.device.profile import CLI, CLI_3
from tests.integration.gateway.harness import TOKEN, GatewayHarness, socket_of
from tests.support.websocket.raw_socket import CLOSE, PING, frame_bytes
from tools.support.peers import admit, want_pairing
from tools.support.waiting import until

if TYPE_CHECKING:
    from shared.device.profile import Profile
    from shared.rpc.messages import Answer, AuthorizeDevice
    from tests.support.websocket.raw_socket import Frame, RawSocket

QUEUED_FRAMES_LIMIT = 15
TOO_MANY = b"Too many unauthenticated sockets"


class TestUnauthenticatedSockets:
    async def test_only_the_33rd_socket_of_an_address_gets_503(
        self, harness: GatewayHarness
    ) -> None:
        for _ in range(32):
            assert (await harness.raw()).status == 101
        refused = await harness.raw()
        assert (refused.status, refused.body) == (503, TOO_MANY)
        assert refused.headers["content-type"].startswith("text/plain")
        elsewhere = await harness.raw(source="127.0.0.2")
        assert (await elsewhere.connect(None, CLI, Credentials(token=TOKEN)))["ok"]

    async def test_the_limit_holds_for_simultaneous_connections(
        self, harness: GatewayHarness
    ) -> None:
        raws = await asyncio.gather(*(harness.raw() for _ in range(1_000)))
        assert sorted(raw.status for raw in raws) == [101] * 32 + [503] * 968
        assert harness.connections.pending == 32

    async def test_admitted_and_closed_connections_free_capacity(
        self, harness: GatewayHarness
    ) -> None:
        first, second, *_rest = [await harness.raw() for _ in range(32)]
        assert (await harness.raw()).status == 503
        assert (await first.connect(DeviceKey.generate(), CLI, Credentials(token=TOKEN)))["ok"]
        assert (await harness.raw()).status == 101
        assert (await harness.raw()).status == 503
        second.reset()
        await until(lambda: harness.connections.pending == 31, "the other is gone")
        assert (await harness.raw()).status == 101
        assert (await harness.raw()).status == 503

    async def test_a_refused_connection_frees_capacity_although_it_lingers(
        self, harness: GatewayHarness
    ) -> None:
        harness.approvals.answer = want_pairing
        lingering = [await harness.raw() for _ in range(32)]
        for raw in lingering:
            assert not (await raw.connect(DeviceKey.generate(), CLI, Credentials(token=TOKEN)))[
                "ok"
            ]
        assert (await harness.raw()).status == 101

    async def test_a_whole_ipv6_64_counts_as_one_address(self) -> None:
        proxy = (ipaddress.ip_network("127.0.0.1"),)
        async with GatewayHarness(preauth_limit=2, trusted_proxies=proxy) as harness:
            statuses = [
                (await harness.raw(headers=[("X-Real-IP", address)])).status
                for address in ("2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8:0:1::1")
            ]
        assert statuses == [101, 101, 503, 101]

    async def test_a_rejected_client_reports_the_503(self) -> None:
        async with GatewayHarness(preauth_limit=1) as harness:
            await harness.raw()
            async with harness.device() as device:
                with pytest.raises(UnreachableError, match="HTTP 503"):
                    await device.connect()
            assert metric(harness, "latchkey_gateway_turned_away_total", limit="address") == 1


class TestConnectionLimit:
    async def test_the_limit_counts_all_sockets_together(self) -> None:
        async with GatewayHarness(connection_limit=3) as harness:
            for number in range(3):
                raw = await harness.raw(source=f"127.0.0.{number + 1}")
                assert (await raw.connect(DeviceKey.generate(), CLI, Credentials(token=TOKEN)))[
                    "ok"
                ]
            refused = await harness.raw(source="127.0.0.9")
            assert (refused.status, refused.body) == (503, b"Too many connections")
            assert refused.headers["retry-after"] == "2"
            assert metric(harness, "latchkey_gateway_turned_away_total", limit="all") == 1
            harness.open_connections[0].transport.abort()
            await until(lambda: len(harness.connections) == 2, "one is gone")
            assert (await harness.raw(source="127.0.0.9")).status == 101

    async def test_pages_are_served_all_the_same(self) -> None:
        async with GatewayHarness(connection_limit=1) as harness:
            held = await harness.raw()
            assert (await held.connect(DeviceKey.generate(), CLI, Credentials(token=TOKEN)))["ok"]
            raw = await harness.raw(path="/any")
            assert raw.status == 503


def metric(harness: GatewayHarness, name: str, **labels: str) -> float:
    return harness.metrics.registry.get_sample_value(name, labels) or 0.0


class TestFramesAheadOfHello:
    """Frames that a client pipelines before hello-ok are queued, 15 at most."""

    @pytest.mark.parametrize("profile", [CLI, CLI_3], ids=["protocol 4", "protocol 3"])
    async def test_15_are_served_after_hello_in_their_order(
        self, harness: GatewayHarness, profile: Profile
    ) -> None:
        raw = await connect_with(harness, profile, QUEUED_FRAMES_LIMIT)
        hello, *answers = [await raw.receive_text() for _ in range(QUEUED_FRAMES_LIMIT + 1)]
        assert hello["payload"]["type"] == "hello-ok"
        assert [answer["id"] for answer in answers] == [
            str(number) for number in range(QUEUED_FRAMES_LIMIT)
        ]
        assert all(answer["ok"] for answer in answers)

    @pytest.mark.parametrize("profile", [CLI, CLI_3], ids=["protocol 4", "protocol 3"])
    async def test_sixteen_frames_ahead_of_hello_are_too_many(
        self, harness: GatewayHarness, profile: Profile
    ) -> None:
        raw = await connect_with(harness, profile, QUEUED_FRAMES_LIMIT + 1)
        assert await raw.closed() == (1008, "too many pending handshake frames")
        assert harness.connections.admitted == 0

    async def test_pings_are_answered_and_not_counted(self, harness: GatewayHarness) -> None:
        raw = await connect_with(harness, CLI, QUEUED_FRAMES_LIMIT, between=frame_bytes(b"", PING))
        answers = [await raw.receive_text() for _ in range(QUEUED_FRAMES_LIMIT + 1)]
        assert all(answer["ok"] for answer in answers)

    async def test_a_client_that_closes_meanwhile_is_not_admitted(
        self, harness: GatewayHarness
    ) -> None:
        raw = await connect_with(harness, CLI, 2, last=frame_bytes(b"\x03\xe9", CLOSE))
        frames: list[Frame] = await raw.rest()
        assert [frame.close.code for frame in frames] == [1001]
        await harness.empty()
        assert outcomes(harness) == {"gone": 1}

    async def test_a_client_that_vanishes_meanwhile_is_not_admitted(
        self, harness: GatewayHarness
    ) -> None:
        decided = hold(harness)
        raw = await harness.raw()
        await raw.challenge()
        await raw.send_json(raw.connect_frame(DeviceKey.generate(), CLI, Credentials(token=TOKEN)))
        await until(lambda: harness.approvals.asked, "approval is asked")
        raw.reset()
        await harness.empty()
        decided.set()
        await until(lambda: outcomes(harness), "the attempt is over")
        assert outcomes(harness) == {"gone": 1}

    async def test_a_client_that_vanishes_does_not_count_as_silent(
        self, harness: GatewayHarness
    ) -> None:
        raw = await harness.raw()
        await raw.challenge()
        raw.hang_up()
        await harness.empty()
        await until(lambda: outcomes(harness), "the attempt is over")
        assert outcomes(harness) == {"gone": 1}

    async def test_a_refused_client_gets_its_refusal_whatever_it_pipelined(
        self, harness: GatewayHarness
    ) -> None:
        harness.approvals.answer = want_pairing
        raw = await connect_with(harness, CLI, 3, held=False)
        assert (await raw.receive_text())["error"]["code"] == "NOT_PAIRED"
        assert (await raw.closed()).code == 1008
        raw.hang_up()
        await harness.empty()

    async def test_fragments_of_the_connect_itself_do_not_count(
        self, harness: GatewayHarness
    ) -> None:
        raw = await harness.raw()
        await raw.challenge()
        text = raw.connect_frame(DeviceKey.generate(), CLI, Credentials(token=TOKEN))
        encoded = str(text).replace("'", '"').encode()
        pieces = [encoded[at : at + 10] for at in range(0, len(encoded), 10)]
        for index, piece in enumerate(pieces):
            last = index == len(pieces) - 1
            await raw.send(piece, 1 if index == 0 else 0, fin=last)
        assert (await raw.receive_text())["ok"]

    async def test_a_good_client_is_not_slowed_down(self, harness: GatewayHarness) -> None:
        async with harness.device() as device:
            assert isinstance(await device.connect(), Admitted)
            assert (await device.call("health")).ok


def hold(harness: GatewayHarness) -> asyncio.Event:
    """Delay approval's decision until the event is set."""
    decided = asyncio.Event()

    async def held(question: AuthorizeDevice) -> Answer:
        await decided.wait()
        return await admit(question)

    harness.approvals.answer = held
    return decided


async def connect_with(
    harness: GatewayHarness,
    profile: Profile,
    count: int,
    *,
    between: bytes = b"",
    last: bytes = b"",
    held: bool = True,
) -> RawSocket:
    """Send `connect` and this many requests at once; approval answers after all arrived."""
    decided = hold(harness) if held else None
    raw = await harness.raw()
    await raw.challenge()
    await raw.send_json(raw.connect_frame(DeviceKey.generate(), profile, Credentials(token=TOKEN)))
    if held:
        await until(lambda: harness.approvals.asked, "approval is asked")
    protocol = socket_of(harness.open_connections[-1])
    before = protocol.received
    behind = b"".join(
        frame_bytes(b'{"type":"req","id":"%d","method":"health"}' % number) + between
        for number in range(count)
    )
    await raw.send_bytes(behind + last)
    if decided is not None:
        await until(lambda: protocol.received == before + len(behind + last), "all has come")
        decided.set()
    return raw


def outcomes(harness: GatewayHarness) -> dict[str, float]:
    return {
        sample.labels["outcome"]: sample.value
        for family in harness.metrics.registry.collect()
        for sample in family.samples
        if sample.name == "latchkey_gateway_handshakes_total"
    }
