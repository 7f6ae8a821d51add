"""Hypothesis strategies for what clients send to a gateway and what approval answers."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st

from shared.bus.errors import Unavailable
from shared.device.handshake import Credentials, encode
from shared.device.identity import DeviceKey
from shared.device.profile import PROFILES
from shared.rpc.messages import Admitted, Answer, Denied, NeedsPairing, Position, TooManyPending
from tests.integration.gateway.harness import TOKEN
from tests.support.websocket.frames import damaged, first_frames, json_values, odd
from tests.support.websocket.raw_socket import BINARY, CLOSE, CONTINUATION, PING, PONG, frame_bytes

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from shared.device.profile import Profile
    from tests.support.websocket.raw_socket import RawSocket

GOOD: Final = Credentials(token=TOKEN)
KEY: Final = DeviceKey.from_seed(bytes(32))


@dataclass(frozen=True)
class Signed:
    """A `connect` signed for its challenge and altered afterwards."""

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
"""Frames that lead to a request to approval."""

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
"""Contents of text frames, before hello-ok or after."""

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
"""Valid WebSocket frames."""
strange: SearchStrategy[bytes] = st.one_of(
    frames,
    closes.map(lambda data: frame_bytes(data, CLOSE)),
    st.builds(
        lambda data, opcode, fin, rsv, key, length_bytes: frame_bytes(
            data, opcode, fin=fin, rsv=rsv << 4, key=key, length_bytes=length_bytes
        ),
        st.binary(max_size=130),
        st.integers(0, 15),
        st.booleans(),
        st.integers(0, 7),
        st.sampled_from([bytes(4), b"mask", None]),
        st.sampled_from([0, 0, 2, 8]),
    ),
    st.builds(
        lambda data, announced: frame_bytes(data, announce=announced),
        st.binary(max_size=20),
        st.sampled_from([0, 125, 126, 65_536, 65_537, 26_214_400, 26_214_401, 2**40, 2**63 - 1]),
    ),
    st.binary(max_size=80),
)
"""Valid and broken frames."""

answers: SearchStrategy[Answer | Unavailable] = st.one_of(
    st.just(Admitted(Position(1, "t"), "token", ["operator.read"], 1)),
    st.builds(
        NeedsPairing,
        st.just(Position(1, "t")),
        st.sampled_from(["not-paired", "role-upgrade", "scope-upgrade", "metadata-upgrade"]),
        st.just("220dd984-79b3-4860-a084-c16f321f9dec"),
        st.sampled_from([None, ["operator"]]),
        st.sampled_from([None, ["operator.read"]]),
    ),
    st.builds(
        Denied,
        st.just(Position(1, "t")),
        st.sampled_from(["device-token-mismatch", "scope-mismatch", "key-mismatch"]),
    ),
    st.just(TooManyPending(Position(1, "t"))),
    st.sampled_from([Unavailable("no-responder"), Unavailable("timeout"), Unavailable("redis")]),
)


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Scene:
    """What one client sends, and how approval answers."""

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


def altered(frame: dict[str, Any], change: tuple[tuple[str, ...], Any]) -> dict[str, Any]:
    """Return a frame with one value replaced, if it has that place."""
    changed: dict[str, Any] = copy.deepcopy(frame)
    (*way, last), value = change
    place: Any = changed
    for step in way:
        place = place.get(step) if isinstance(place, dict) else None
    if isinstance(place, dict):
        place[last] = value
    return changed


def as_bytes(raw: RawSocket, item: bytes | Signed) -> bytes:
    """Return the bytes to send."""
    if isinstance(item, bytes):
        return item
    frame = raw.connect_frame(KEY, item.profile, item.credentials)
    for change in item.changes:
        frame = altered(frame, change)
    return frame_bytes(encode(frame).encode("utf-8", "surrogatepass"))
