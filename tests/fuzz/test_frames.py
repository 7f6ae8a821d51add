"""Any frames, however malformed, get a documented answer.

Hypothesis talks to a gateway on a real socket, with a scripted approval that gives any valid
answer. After each conversation the gateway must admit a well-behaved client.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.bus.errors import Unavailable
from shared.device.profile import CLI, CONTROL_UI, NODE_HOST, PROFILES
from shared.protocol.limits import CLOSING_SECONDS, HANDSHAKE_DEADLINE_SECONDS
from tests.fuzz.conversations import GOOD, KEY, Scene, as_bytes, frames, scenes, strange
from tests.fuzz.documented import (
    INVALID_FRAME_CLOSES,
    check_after,
    check_before,
    check_refusal,
    echoed,
)
from tests.integration.gateway.harness import GatewayHarness, socket_of
from tests.support.clock import turns
from tests.support.websocket.frames import first_frames
from tests.support.websocket.raw_socket import CLOSE, PING, PONG, TEXT, Gone
from tools.support.peers import admit
from tools.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from services.gateway.connections.connection import Connection
    from services.gateway.websocket.protocol import SocketProtocol
    from shared.device.profile import Profile
    from shared.rpc.messages import Answer, AuthorizeDevice
    from tests.fuzz.conversations import Signed
    from tests.support.websocket.raw_socket import RawSocket

EXAMPLES: Final = 100
OVER: Final = b"that is all"

relaxed = settings(
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


pytestmark = pytest.mark.timeout(300)
"""Seconds for a test with many examples on a busy machine."""


class Bench:
    """One gateway and one event loop for all examples."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.harness = self.runner.run(self._open())

    async def _open(self) -> GatewayHarness:
        return await GatewayHarness(preauth_limit=1_000).__aenter__()

    def close(self) -> None:
        self.runner.run(self.harness.__aexit__(None, None, None))
        self.runner.close()


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


async def converse(raw: RawSocket, items: list[bytes | Signed], *, at_once: bool) -> bytes:
    """Send everything, separately or in one write; returns it."""
    sent = b""
    for item in items:
        data = as_bytes(raw, item)
        sent += data
        if not at_once:
            try:
                await raw.send_bytes(data)
            except Gone:
                return sent
    if at_once:
        await raw.send_bytes(sent)
    return sent


async def taken(protocol: SocketProtocol, arrived: int, connection: Connection) -> None:
    """Wait until the gateway has read this many bytes, or stopped reading."""
    await until(lambda: protocol.received >= arrived or connection.closing, "all has come")
    await turns()


async def good_client(harness: GatewayHarness) -> None:
    """Check that the gateway still admits a good client and has released all others."""
    harness.approvals.answer = admit
    async with await harness.raw() as raw:
        assert (await raw.connect(KEY, CLI, GOOD))["ok"]
        await raw.send_close()
        await raw.rest()
    await harness.empty()
    harness.protocols.clear()
    harness._raws.clear()


def script(answer: Answer | Unavailable) -> Any:
    async def scripted(_question: AuthorizeDevice) -> Answer:
        if isinstance(answer, Unavailable):
            raise answer
        return answer

    return scripted


class TestBeforeHello:
    @relaxed
    @given(scene=scenes)
    def test_every_conversation_ends_as_documented(self, bench: Bench, scene: Scene) -> None:
        bench.runner.run(self._conversation(bench.harness, scene))

    async def _conversation(self, harness: GatewayHarness, scene: Scene) -> None:
        harness.approvals.answer = script(scene.answer)
        headers = [("Origin", scene.origin)] if scene.origin else []
        async with await harness.raw(headers=headers) as raw:
            connection = harness.open_connections[-1]
            protocol = socket_of(connection)
            await raw.challenge()
            before = protocol.received
            sent = await converse(raw, scene.items, at_once=scene.at_once)
            await taken(protocol, before + len(sent), connection)
            # Remaining connections are closed: unauthenticated ones by their deadline, others here.
            await harness.pass_time(HANDSHAKE_DEADLINE_SECONDS)
            harness.connections.close(connection, 1000, "")
            await harness.pass_time(CLOSING_SECONDS + 0.5)
            check_before(await raw.rest(), echoed(sent))
        await good_client(harness)

    @relaxed
    @given(first=first_frames)
    def test_an_unapproved_client_is_never_admitted_and_always_refused_or_closed(
        self, bench: Bench, first: bytes
    ) -> None:
        async def conversation(harness: GatewayHarness) -> None:
            async with await harness.raw() as raw:
                await raw.challenge()
                await raw.send(first)
                frame = await raw.receive()
                if frame.opcode == TEXT:
                    check_refusal(frame.json["error"], await raw.closed())
                else:
                    assert tuple(frame.close) in INVALID_FRAME_CLOSES
                raw.hang_up()
            await harness.empty()
            assert harness.approvals.asked == asked

        asked = list(bench.harness.approvals.asked)
        bench.runner.run(conversation(bench.harness))


class TestAfterHello:
    @relaxed
    @given(
        items=st.lists(frames, max_size=8),
        profile=st.sampled_from(
            [CLI, CLI.with_scopes("operator.admin"), NODE_HOST, *PROFILES.values()]
        ),
        at_once=st.booleans(),
    )
    def test_sound_frames_get_the_answers_of_the_table_and_the_socket_stays(
        self,
        bench: Bench,
        items: list[bytes],
        profile: Profile,
        at_once: bool,  # noqa: FBT001 (hypothesis gives it by name)
    ) -> None:
        async def conversation(harness: GatewayHarness) -> None:
            raw = await admitted(harness, profile)
            async with raw:
                await converse(raw, [*items], at_once=at_once)
                await raw.send(OVER, PING)
                messages = []
                while (frame := await raw.receive()) != (PONG, OVER) and frame.opcode != CLOSE:
                    messages.append(frame)
                check_after(messages, set())
                assert frame.opcode == PONG, frame
                await raw.send_close()
                await raw.rest()
            await good_client(harness)

        bench.runner.run(conversation(bench.harness))

    @relaxed
    @given(items=st.lists(strange, max_size=6), at_once=st.booleans())
    def test_broken_frames_end_the_connection_as_documented(
        self,
        bench: Bench,
        items: list[bytes],
        at_once: bool,  # noqa: FBT001 (hypothesis gives it by name)
    ) -> None:
        async def conversation(harness: GatewayHarness) -> None:
            raw = await admitted(harness, CLI)
            async with raw:
                connection = harness.open_connections[-1]
                protocol = socket_of(connection)
                before = protocol.received
                sent = await converse(raw, [*items], at_once=at_once)
                await taken(protocol, before + len(sent), connection)
                harness.connections.close(connection, 1000, "")
                await harness.pass_time(CLOSING_SECONDS + 0.5)
                check_after(await raw.rest(), echoed(sent))
            await good_client(harness)

        bench.runner.run(conversation(bench.harness))


async def admitted(harness: GatewayHarness, profile: Profile) -> RawSocket:
    """Admit a client; pages send a local Origin."""
    harness.approvals.answer = admit
    page = profile.client_id == CONTROL_UI.client_id
    raw = await harness.raw(headers=[("Origin", "http://localhost")] if page else [])
    assert (await raw.connect(KEY, profile, GOOD))["ok"]
    return raw
