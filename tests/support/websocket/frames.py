"""Hypothesis strategies for first frames: valid, damaged, and random ones."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st

from shared.protocol.connect import CLIENT_IDS, CLIENT_MODES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hypothesis.strategies import DrawFn, SearchStrategy

Json = Any

SCOPES: Final = (
    "operator.read",
    "operator.write",
    "operator.admin",
    "operator.pairing",
    "node.run",
)

short: SearchStrategy[str] = st.text(min_size=1, max_size=12)
edges: SearchStrategy[str] = st.sampled_from(
    ["", " ", "x" * 64, "x" * 65, "x" * 96, "x" * 97, "x" * 256, "x" * 257, "é" * 256, "🔑" * 257]
)
odd: SearchStrategy[Json] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 5),
    st.sampled_from([2**31, 2**53, 2**63, 2**64, 10**30, -(2**63), 4.0, 4.5, -1.0, 1e16, 1e300]),
    edges,
    st.text(max_size=8),
    st.lists(st.one_of(st.none(), st.text(max_size=3)), max_size=3),
    st.sampled_from([["x"] * 256, ["x"] * 257, [""], ["x" * 257]]),
    st.dictionaries(st.text(max_size=3), st.booleans(), max_size=3),
    st.sampled_from([{f"p{n}": True for n in range(count)} for count in (256, 257)]),
)
"""Values that are wrong in most places, and at the limits in others."""

json_values: SearchStrategy[Json] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=10),
    ),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=12,
)

devices: SearchStrategy[Json] = st.fixed_dictionaries(
    {
        "id": short,
        "publicKey": short,
        "signature": short,
        "signedAt": st.integers(0, 2**53),
        "nonce": short,
    }
)
auths: SearchStrategy[Json] = st.fixed_dictionaries(
    {},
    optional={
        name: st.text(max_size=10)
        for name in ("token", "deviceToken", "bootstrapToken", "password", "approvalRuntimeToken")
    },
)
clients: SearchStrategy[Json] = st.fixed_dictionaries(
    {
        "id": st.sampled_from(CLIENT_IDS),
        "version": short,
        "platform": short,
        "mode": st.sampled_from(CLIENT_MODES),
    },
    optional={
        "displayName": short,
        "deviceFamily": short,
        "modelIdentifier": short,
        "instanceId": short,
        "buildId": short,
        "timeZone": short,
        "unknown": json_values,
    },
)
sound_params: SearchStrategy[Json] = st.fixed_dictionaries(
    {
        "minProtocol": st.integers(1, 5),
        "maxProtocol": st.integers(1, 5),
        "client": clients,
    },
    optional={
        "role": st.sampled_from(["operator", "node", "worker", "x"]),
        "scopes": st.lists(st.sampled_from(SCOPES), max_size=4),
        "device": devices,
        "auth": auths,
        "caps": st.lists(short, max_size=2),
        "commands": st.lists(short, max_size=2),
        "permissions": st.dictionaries(short, st.booleans(), max_size=2),
        "pathEnv": st.text(max_size=5),
        "locale": st.text(max_size=5),
        "userAgent": st.text(max_size=5),
        "modelCatalog": json_values,
        "unknown": json_values,
    },
)
"""Params that match the schema, but may be wrong otherwise."""

sound_frames: SearchStrategy[Json] = st.fixed_dictionaries(
    {"type": st.just("req"), "id": short, "method": st.just("connect"), "params": sound_params},
    optional={
        "traceparent": st.text(max_size=5),
        "expectedProfileId": short,
        "unknown": json_values,
    },
)


def _places(value: Json, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _places(inner, (*path, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _places(inner, (*path, index))


@st.composite
def damaged(draw: DrawFn, frames: SearchStrategy[Json] = sound_frames) -> Json:
    """Draw a frame with up to three values replaced, removed or added."""
    frame = copy.deepcopy(draw(frames))
    for _ in range(draw(st.integers(0, 3))):
        *way, last = draw(st.sampled_from(list(_places(frame))))
        parent = frame
        for step in way:
            parent = parent[step]
        kind = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
        if kind == "replace":
            parent[last] = copy.deepcopy(draw(odd))
        elif kind == "add" and isinstance(parent, dict):
            parent[draw(st.text(max_size=5))] = copy.deepcopy(draw(odd))
        else:
            del parent[last]
        if not frame:
            break
    return frame


@st.composite
def doubled(draw: DrawFn) -> bytes:
    """Draw a damaged frame as text with some keys duplicated."""
    frame = draw(damaged())
    text = json.dumps(frame, ensure_ascii=draw(st.booleans()))
    name = draw(
        st.sampled_from(["type", "id", "method", "params", "role", "client", "scopes", "device"])
    )
    value = json.dumps(draw(odd))
    marker = f'"{name}":'
    return text.replace(marker, f"{marker} {value}, {marker}").encode(errors="surrogatepass")


@st.composite
def scratched(draw: DrawFn) -> bytes:
    """Draw a frame's text with a few bytes changed, removed or duplicated."""
    text = bytearray(json.dumps(draw(sound_frames)).encode())
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(text) - 1)))
        text[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=3))
    return bytes(text)


first_frames: SearchStrategy[bytes] = st.one_of(
    sound_frames.map(lambda frame: json.dumps(frame).encode()),
    damaged().map(lambda frame: json.dumps(frame).encode()),
    doubled(),
    scratched(),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.text(max_size=60).map(str.encode),
    st.binary(max_size=60),
)
"""Anything a client might send first."""
