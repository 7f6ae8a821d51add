"""No frames, however formed, get anything but a documented answer (contract §1, §5, §7.2).

Hypothesis speaks to a gateway on a real socket; approval is a script that says anything it may.
After each conversation the gateway lets a good client in.
"""

from __future__ import annotations

import asyncio
import copy
import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import pytest
import uvloop
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from shared.bus.errors import Unavailable
from shared.device.handshake import Credentials, encode
from shared.device.identity import DeviceKey
from shared.device.profile import CLI, CONTROL_UI, NODE_HOST, PROFILES
from shared.messages import Admitted, Answer, Change, Denied, NeedsPairing, Overfull
from shared.protocol.closing import cut_reason
from shared.protocol.limits import CLOSING_SECONDS, HANDSHAKE_DEADLINE_SECONDS
from tests.integration.gateway.house import TOKEN, House
from tests.support.clock import turns
from tests.support.frames import damaged, first_frames, json_values, odd
from tests.support.peers import admit
from tests.support.raw_socket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Gone,
    frame_bytes,
)
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hypothesis.strategies import SearchStrategy

    from services.gateway.connections import Connection
    from shared.device.profile import Profile
    from shared.messages import Admission
    from tests.integration.gateway.house import CountingProtocol
    from tests.support.raw_socket import Frame, RawSocket

EXAMPLES: Final = 150
GOOD: Final = Credentials(token=TOKEN)
KEY: Final = DeviceKey.from_seed(bytes(32))
OVER: Final = b"that is all"

relaxed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def _same(value: Any) -> Any:
    return value


class Bench:
    """One gateway and one event loop for all examples."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.house = self.runner.run(self._open())

    async def _open(self) -> House:
        return await House(preauth_limit=1_000).__aenter__()

    def close(self) -> None:
        self.runner.run(self.house.__aexit__(None, None, None))
        self.runner.close()


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


# What is sent.


@dataclass(frozen=True)
class Signed:
    """A `connect` that is right for the challenge it meets, but for what was changed afterwards."""

    profile: Profile
    credentials: Credentials
    changes: tuple[tuple[tuple[str, ...], Any], ...]


profiles: SearchStrategy[Profile] = st.builds(
    lambda profile, low, high, scopes, role: replace(
        profile, min_protocol=low, max_protocol=high, scopes=scopes, role=role
    ),
    st.sampled_from([*PROFILES.values()]),
    st.sampled_from([4, 4, 3, 1, 5]),
    st.sampled_from([4, 4, 3, 9]),
    st.sampled_from([(), ("operator.read",), ("operator.admin", "operator.pairing"), None]),
    st.sampled_from(["operator", "operator", "node", None, "worker", "root"]),
)
secrets: SearchStrategy[str | None] = st.sampled_from([TOKEN, TOKEN, "wrong", "", None])
credentials: SearchStrategy[Credentials] = st.builds(
    Credentials,
    token=secrets,
    device_token=st.sampled_from([None, None, "a device token", ""]),
    bootstrap_token=st.sampled_from([None, None, None, "a code", ""]),
    password=st.sampled_from([None, None, TOKEN, "wrong"]),
)
PLACES: Final = [
    *[("params", name) for name in ("minProtocol", "client", "role", "scopes", "device", "auth")],
    *[("params", "client", name) for name in ("id", "mode", "platform", "deviceFamily", "more")],
    *[
        ("params", "device", name)
        for name in ("id", "publicKey", "signature", "signedAt", "nonce", "more")
    ],
    *[("params", "auth", name) for name in ("token", "deviceToken", "password", "more")],
    *[(name,) for name in ("type", "id", "method", "params", "more")],
]
signed: SearchStrategy[Signed] = st.builds(
    Signed,
    profiles,
    credentials,
    st.lists(st.tuples(st.sampled_from(PLACES), odd), max_size=2).map(tuple),
)

sound: SearchStrategy[Signed] = st.builds(
    Signed,
    st.sampled_from([*PROFILES.values()]),
    st.sampled_from([GOOD, GOOD, Credentials(device_token="one"), Credentials(token="one")]),
    st.just(()),
)
"""Those about which approval is asked."""

requests: SearchStrategy[Any] = st.fixed_dictionaries(
    {
        "type": st.just("req"),
        "id": st.text(min_size=1, max_size=8),
        "method": st.sampled_from(
            ["health", "health", "connect", "nope", "device.pair.list", "device.pair.approve"]
        ),
    },
    optional={"params": json_values, "traceparent": st.text(max_size=130), "more": json_values},
)
texts: SearchStrategy[bytes] = st.one_of(
    requests.map(lambda frame: json.dumps(frame).encode()),
    damaged(requests).map(lambda frame: json.dumps(frame).encode()),
    first_frames,
)
"""What a text frame may hold, before hello or after."""

closes: SearchStrategy[bytes] = st.one_of(
    st.just(b""),
    st.binary(max_size=125),
    st.builds(
        lambda code, reason: code.to_bytes(2, "big") + reason.encode()[:120],
        st.integers(0, 65_535),
        st.text(max_size=10),
    ),
)
frames: SearchStrategy[bytes] = st.one_of(
    texts.map(frame_bytes),
    texts.map(frame_bytes),
    texts.map(lambda text: frame_bytes(text, BINARY)),
    st.builds(
        lambda text, at: frame_bytes(text[:at], fin=False) + frame_bytes(text[at:], CONTINUATION),
        texts,
        st.integers(0, 40),
    ),
    st.binary(max_size=125).map(lambda data: frame_bytes(data, PING)),
    st.binary(max_size=125).map(lambda data: frame_bytes(data, PONG)),
)
"""Sound WebSocket frames."""
strange: SearchStrategy[bytes] = st.one_of(
    frames,
    closes.map(lambda data: frame_bytes(data, CLOSE)),
    st.builds(
        lambda data, opcode, fin, rsv: frame_bytes(data, opcode, fin=fin, rsv=rsv << 4),
        st.binary(max_size=130),
        st.integers(0, 15),
        st.booleans(),
        st.integers(0, 7),
    ),
    st.builds(
        lambda data, announced: frame_bytes(data, announce=announced),
        st.binary(max_size=20),
        st.sampled_from([0, 125, 126, 65_536, 65_537, 26_214_400, 26_214_401, 2**40, 2**63 - 1]),
    ),
    st.binary(max_size=80),
)
"""Sound ones and broken ones."""

answers: SearchStrategy[Answer | Unavailable] = st.one_of(
    st.just(Admitted(Change(1, "t"), "token", ["operator.read"], 1)),
    st.builds(
        NeedsPairing,
        st.just(Change(1, "t")),
        st.sampled_from(["not-paired", "role-upgrade", "scope-upgrade", "metadata-upgrade"]),
        st.just("220dd984-79b3-4860-a084-c16f321f9dec"),
        st.sampled_from([None, ["operator"]]),
        st.sampled_from([None, ["operator.read"]]),
    ),
    st.builds(
        Denied,
        st.just(Change(1, "t")),
        st.sampled_from(["device-token-mismatch", "scope-mismatch", "key-mismatch"]),
    ),
    st.just(Overfull(Change(1, "t"))),
    st.sampled_from([Unavailable("no-responder"), Unavailable("timeout"), Unavailable("redis")]),
)


# What may come back.

INVALID_FRAME_CLOSES: Final = {
    (1000, ""),
    (1002, ""),
    (1007, ""),  # a close frame whose reason is not UTF-8 (RFC 6455 §8.1)
    (1008, "invalid-handshake"),
    (1008, "invalid request frame"),
    (1008, "too many pending handshake frames"),
    (1009, ""),
}
"""Closes without a frame before them."""

DOCUMENTED: Final = [
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r"invalid connect params: .+",
        r"invalid handshake: first request must be connect",
        r"invalid role",
        r"origin not allowed \(.+\)",
        r"control ui requires device identity \(.+\)",
        r"device (identity mismatch|signature expired|nonce required|nonce mismatch)",
        r"device (signature invalid|public key invalid)",
        r"unauthorized: gateway token (mismatch|missing) \(.+\)",
        r"unauthorized: device token mismatch \(rotate/reissue device token\)",
        r"unauthorized: device token scope mismatch \(.+\)",
        r"unauthorized: (setup code|bootstrap token) invalid.+",
    )
]
NOT_PAIRED: Final = re.compile(r"device identity required|pairing required(: .+)?")
UNAVAILABLE: Final = re.compile(r"(approval|redis) unavailable \([a-z-]+\); retry shortly")
AFTER_HELLO: Final = re.compile(
    r"invalid request frame: .+|connect is only valid as the first request|unknown method: .*|"
    r"missing scope: operator\.\w+|unauthorized role: (operator|node)",
    re.DOTALL,
)


def check_refusal(error: dict[str, Any], close: tuple[int, str]) -> None:
    """Check a refusal against the rows of contract §5 and §7.2."""
    code, message = error["code"], error["message"]
    assert error["details"]["connectionId"]
    event(f"refused: {code}")
    if code == "UNAVAILABLE":
        assert UNAVAILABLE.fullmatch(message), message
        assert error["retryable"] is True
        assert 0 < error["retryAfterMs"] <= 10_000
        assert close == (1013, f"{error['details']['dependency']} unavailable")
    elif code == "NOT_PAIRED":
        assert NOT_PAIRED.fullmatch(message), message
        assert close[0] == 1008
        assert close[1].startswith(message[:100])
    else:
        assert code == "INVALID_REQUEST"
        if message == "protocol mismatch":
            assert close == (1002, "protocol mismatch")
        else:
            assert any(row.fullmatch(message) for row in DOCUMENTED), message
            assert close == (1008, cut_reason(message))


def check_before(frames: list[Frame], own_close: set[int]) -> bool:
    """Check all that came after the challenge; say whether it was hello-ok."""
    said = [frame for frame in frames if frame.opcode != PONG]
    if not said:
        return False
    first = said[0]
    if first.opcode == TEXT and first.json["ok"]:
        assert first.json["payload"]["type"] == "hello-ok"
        event("admitted")
        check_after(said[1:], own_close)
        return True
    if first.opcode == TEXT:
        answer, closing = first.json, said[1].close
        assert answer.keys() == {"type", "id", "ok", "error"}
        check_refusal(answer["error"], closing)
    else:
        event(f"closed: {first.close}")
        assert tuple(first.close) in INVALID_FRAME_CLOSES or first.close.code in own_close
    assert said[-1].opcode == CLOSE, "nothing comes after the close"
    assert [frame.opcode for frame in said].count(CLOSE) == 1
    return False


def check_after(frames: list[Frame], own_close: set[int]) -> None:
    """Check what came after hello-ok against the table of contract §1."""
    for at, frame in enumerate(frames):
        if frame.opcode == CLOSE:
            allowed = {(1002, ""), (1007, ""), (1008, "repeated unauthorized calls"), (1009, "")}
            assert tuple(frame.close) in allowed or frame.close.code in own_close, frame.close
            event(f"closed: {frame.close}")
            assert at == len(frames) - 1, "nothing comes after the close"
        elif frame.opcode == TEXT:
            answer = frame.json
            if answer["type"] == "event":
                assert answer["event"] == "tick"
                continue
            assert answer["type"] == "res"
            assert isinstance(answer["id"], str)
            if answer["ok"]:
                assert answer["payload"].keys() == {"ok", "ts"}
            else:
                check_no(answer["error"])
        else:
            assert frame.opcode in {PING, PONG}


def check_no(error: dict[str, Any]) -> None:
    assert AFTER_HELLO.fullmatch(error["message"]), error
    if error["code"] == "FORBIDDEN":
        assert error["details"]["code"] == "MISSING_SCOPE"
    else:
        assert error["code"] == "INVALID_REQUEST"
        assert error.keys() == {"code", "message"}
    event(f"no: {error['message'].partition(':')[0]}")


# The conversations.


def altered(frame: dict[str, Any], change: tuple[tuple[str, ...], Any]) -> dict[str, Any]:
    """Return a frame with one value put in its place, where there is such a place."""
    changed: dict[str, Any] = copy.deepcopy(frame)
    (*way, last), value = change
    place: Any = changed
    for step in way:
        place = place.get(step) if isinstance(place, dict) else None
    if isinstance(place, dict):
        place[last] = value
    return changed


def as_bytes(raw: RawSocket, item: bytes | Signed) -> bytes:
    """Return what goes over the wire."""
    if isinstance(item, bytes):
        return item
    frame = raw.connect_frame(KEY, item.profile, item.credentials)
    for change in item.changes:
        frame = altered(frame, change)
    return frame_bytes(encode(frame).encode("utf-8", "surrogatepass"))


def echoed(sent: bytes) -> set[int]:
    """Return the codes that answer the close frames in what was sent, wherever they stand."""
    sendable = {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}
    found = {1000}
    for at in range(len(sent) - 7):
        if sent[at] & 0x0F == CLOSE:
            found.add(int.from_bytes(sent[at + 6 : at + 8], "big"))
    return found & sendable


async def converse(raw: RawSocket, items: list[bytes | Signed], *, at_once: bool) -> bytes:
    """Send everything, one by one or in one go; return it."""
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


async def taken(protocol: CountingProtocol, arrived: int, connection: Connection) -> None:
    """Wait until the gateway has had so many bytes, or wants no more."""
    await until(lambda: protocol.arrived >= arrived or connection.closing, "all has come")
    await turns()


async def good_client(house: House) -> None:
    """Check that the gateway still lets a good client in, and keeps nothing of the others."""
    house.approvals.answer = admit
    async with await house.raw() as raw:
        assert (await raw.connect(KEY, CLI, GOOD))["ok"]
        await raw.send_close()
        await raw.rest()
    await house.empty()
    house.protocols.clear()
    house._raws.clear()


def script(answer: Answer | Unavailable) -> Any:
    async def scripted(_question: Admission) -> Answer:
        if isinstance(answer, Unavailable):
            raise answer
        return answer

    return scripted


@dataclass(frozen=True)
class Scene:
    """What one client sends, and what approval says if it is asked."""

    items: list[bytes | Signed]
    at_once: bool
    answer: Answer | Unavailable
    origin: str | None


scenes: SearchStrategy[Scene] = st.builds(
    lambda first, more, at_once, answer, origin: Scene([first, *more], at_once, answer, origin),
    # `one_of` flattens its alternatives, so that one made of many would outweigh the others.
    st.one_of(sound, sound, signed, strange.map(_same)),
    st.lists(st.one_of(frames, strange, signed), max_size=4),
    st.booleans(),
    answers,
    st.sampled_from([None, "http://localhost:1", "http://localhost:1", "null"]),
)


class TestBeforeHello:
    @relaxed
    @given(scene=scenes)
    def test_every_conversation_ends_as_documented(self, bench: Bench, scene: Scene) -> None:
        bench.runner.run(self._conversation(bench.house, scene))

    async def _conversation(self, house: House, scene: Scene) -> None:
        house.approvals.answer = script(scene.answer)
        headers = [("Origin", scene.origin)] if scene.origin else []
        async with await house.raw(headers=headers) as raw:
            protocol = house.protocols[-1]
            connection = house.open_connections[-1]
            await raw.challenge()
            before = protocol.arrived
            sent = await converse(raw, scene.items, at_once=scene.at_once)
            await taken(protocol, before + len(sent), connection)
            # Whoever is still there is shown the door: strangers by their deadline, others here.
            await house.pass_time(HANDSHAKE_DEADLINE_SECONDS)
            house.connections.close(connection, 1000, "")
            await house.pass_time(CLOSING_SECONDS + 0.5)
            check_before(await raw.rest(), echoed(sent))
        await good_client(house)

    @relaxed
    @given(first=first_frames)
    def test_a_stranger_never_gets_in_and_is_always_told_or_closed(
        self, bench: Bench, first: bytes
    ) -> None:
        async def conversation(house: House) -> None:
            async with await house.raw() as raw:
                await raw.challenge()
                await raw.send(first)
                said = await raw.receive()
                if said.opcode == TEXT:
                    check_refusal(said.json["error"], await raw.closed())
                else:
                    assert tuple(said.close) in INVALID_FRAME_CLOSES
                raw.hang_up()
            await house.empty()
            assert house.approvals.asked == asked

        asked = list(bench.house.approvals.asked)
        bench.runner.run(conversation(bench.house))


class TestAfterHello:
    @relaxed
    @given(
        items=st.lists(frames, max_size=8),
        profile=st.sampled_from([CLI, CLI.asking("operator.admin"), NODE_HOST, *PROFILES.values()]),
        at_once=st.booleans(),
    )
    def test_sound_frames_get_the_answers_of_the_table_and_the_socket_stays(
        self,
        bench: Bench,
        items: list[bytes],
        profile: Profile,
        at_once: bool,  # noqa: FBT001 (hypothesis gives it by name)
    ) -> None:
        async def conversation(house: House) -> None:
            raw = await admitted(house, profile)
            async with raw:
                await converse(raw, [*items], at_once=at_once)
                await raw.send(OVER, PING)
                said = []
                while (frame := await raw.receive()) != (PONG, OVER) and frame.opcode != CLOSE:
                    said.append(frame)
                check_after(said, set())
                assert frame.opcode == PONG, frame
                await raw.send_close()
                await raw.rest()
            await good_client(house)

        bench.runner.run(conversation(bench.house))

    @relaxed
    @given(items=st.lists(strange, max_size=6), at_once=st.booleans())
    def test_broken_frames_end_the_connection_as_documented(
        self,
        bench: Bench,
        items: list[bytes],
        at_once: bool,  # noqa: FBT001 (hypothesis gives it by name)
    ) -> None:
        async def conversation(house: House) -> None:
            raw = await admitted(house, CLI)
            async with raw:
                connection, protocol = house.open_connections[-1], house.protocols[-1]
                before = protocol.arrived
                sent = await converse(raw, [*items], at_once=at_once)
                await taken(protocol, before + len(sent), connection)
                house.connections.close(connection, 1000, "")
                await house.pass_time(CLOSING_SECONDS + 0.5)
                check_after(await raw.rest(), echoed(sent))
            await good_client(house)

        bench.runner.run(conversation(bench.house))


async def admitted(house: House, profile: Profile) -> RawSocket:
    """Let one in; pages say that they are local."""
    house.approvals.answer = admit
    page = profile.client_id == CONTROL_UI.client_id
    raw = await house.raw(headers=[("Origin", "http://localhost")] if page else [])
    assert (await raw.connect(KEY, profile, GOOD))["ok"]
    return raw
