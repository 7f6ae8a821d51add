"""The fast typed decoder and the explaining validator agree on which connects are valid."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import assume, example, given

from shared.protocol import schema
from shared.protocol.connect import ConnectFrame, connect_from, decode_connect
from tests.support.websocket.frames import damaged, doubled, scratched, sound_frames

GOOD: dict[str, Any] = {
    "minProtocol": 4,
    "maxProtocol": 4,
    "client": {"id": "cli", "version": "1", "platform": "linux", "mode": "cli"},
    "device": {"id": "i", "publicKey": "k", "signature": "s", "signedAt": 0, "nonce": "n"},
}

OUT_OF_RANGE = re.compile(rb"[eE]\+?\d{3,}|\d{300,}")


def problems_of(value: Any) -> list[str]:
    """Return everything that the explaining validator finds in a first frame."""
    problem = schema.request_problem(value)
    if problem is not None:
        return [problem]
    if value["method"] != "connect":
        return ["not connect"]
    if "params" not in value:
        return ["no params"]
    return schema.params_problems(value["params"], schema.CONNECT_PARAMS)


def has_integral_float(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(params := value.get("params"), dict):
        return False
    device = params.get("device")
    numbers = [params.get("minProtocol"), params.get("maxProtocol")]
    numbers.append(device.get("signedAt") if isinstance(device, dict) else None)
    return any(isinstance(number, float) and number.is_integer() for number in numbers)


def agree(text: bytes, *, doubled_keys: bool = False) -> None:
    """Check that both decoders agree.

    With duplicate keys the fast one may leave a valid frame to the slow one: it checks both values.
    """
    quick = decode_connect(text)
    try:
        value = schema.parse(text)
    except ValueError:
        # The fast decoder skips unknown fields, and so numbers out of range in them.
        assert quick is None or OUT_OF_RANGE.search(text)
        return
    problems = problems_of(value)
    if has_integral_float(value):
        assert quick is None
    elif doubled_keys:
        assert quick is None or not problems, problems
    else:
        assert (quick is not None) == (not problems), problems
    if not problems:
        slow = connect_from(value)
        assert isinstance(slow, ConnectFrame)
        assert quick is None or quick == slow


def with_params(**changes: Any) -> dict[str, Any]:
    return {**GOOD, **changes}


def with_part(part: str, **changes: Any) -> dict[str, Any]:
    return {**GOOD, part: {**GOOD[part], **changes}}


def without(name: str, part: str | None = None) -> dict[str, Any]:
    params = json.loads(json.dumps(GOOD))
    del (params[part] if part else params)[name]
    return params  # type: ignore[no-any-return]


def framed(params: Any) -> bytes:
    return json.dumps({"type": "req", "id": "1", "method": "connect", "params": params}).encode()


BOUNDED_TEXTS = {
    ("client", "version"): 256,
    ("client", "platform"): 256,
    ("client", "displayName"): None,
    ("client", "deviceFamily"): 256,
    ("client", "modelIdentifier"): 256,
    ("client", "instanceId"): 256,
    ("client", "buildId"): 96,
    ("client", "timeZone"): 64,
    ("device", "id"): None,
    ("device", "publicKey"): None,
    ("device", "signature"): None,
    ("device", "nonce"): None,
}


class TestBothWaysAgree:
    @pytest.mark.parametrize(("part", "name"), BOUNDED_TEXTS)
    def test_both_ways_agree_on_the_bounds_of_each_text(self, part: str, name: str) -> None:
        maximum = BOUNDED_TEXTS[part, name]
        lengths = [0, 1, *((maximum, maximum + 1) if maximum else (60_000,))]
        for length in lengths:
            params = with_part(part, **{name: "é" * length})
            sound = length > 0 and (maximum is None or length <= maximum)
            assert (schema.params_problems(params, schema.CONNECT_PARAMS) == []) is sound
            agree(framed(params))

    @pytest.mark.parametrize(
        ("name", "maximum"), [("scopes", 64), ("caps", 256), ("commands", 256)]
    )
    def test_both_ways_agree_on_the_bounds_of_each_list(self, name: str, maximum: int) -> None:
        """`maximum` items, and as many characters in each."""
        x = "x" * maximum
        for items in ([], ["x"], [x] * maximum, ["x"] * (maximum + 1), [""], [x + "x"], [None]):
            params = with_params(**{name: items})
            sound = len(items) <= maximum and all(item and len(item) <= maximum for item in items)
            assert (schema.params_problems(params, schema.CONNECT_PARAMS) == []) is sound
            agree(framed(params))

    @pytest.mark.parametrize("number", [-1, 0, 1, 2**53, 2**64, -(2**63) - 1, 1.5, True, None, "1"])
    def test_both_ways_agree_on_numbers(self, number: Any) -> None:
        agree(framed(with_params(minProtocol=number)))
        agree(framed(with_params(maxProtocol=number)))
        agree(framed(with_part("device", signedAt=number)))

    @given(sound_frames)
    def test_both_ways_agree_on_valid_frames(self, frame: Any) -> None:
        assert problems_of(frame) == []
        agree(json.dumps(frame).encode())

    @given(damaged())
    def test_both_ways_agree_on_damaged_frames(self, frame: Any) -> None:
        agree(json.dumps(frame).encode())

    @given(doubled())
    def test_both_ways_agree_on_frames_with_doubled_keys(self, text: bytes) -> None:
        agree(text, doubled_keys=True)

    @given(scratched())
    @example(b'{"type":"req","type":"event","id":"1","method":"connect","params":{}}')
    def test_both_ways_agree_on_scratched_frames(self, text: bytes) -> None:
        agree(text)

    @pytest.mark.parametrize(
        "number", ["4.0", "4e0", "40e-1", "1e16", "1e30", "9007199254740993.0"]
    )
    @pytest.mark.parametrize("name", ["minProtocol", "maxProtocol", "signedAt"])
    def test_whole_numbers_written_as_floats_are_taken_by_the_slow_way(
        self, name: str, number: str
    ) -> None:
        """The one known difference between the two."""
        frame = {"type": "req", "id": "1", "method": "connect", "params": GOOD}
        text = json.dumps(frame)
        text = text.replace(f'"{name}": {0 if name == "signedAt" else 4}', f'"{name}": {number}')
        assert decode_connect(text.encode()) is None
        value = schema.parse(text.encode())
        assert problems_of(value) == []
        assert getattr(
            connect_from(value).params if name != "signedAt" else connect_from(value).params.device,
            {"minProtocol": "min_protocol", "maxProtocol": "max_protocol", "signedAt": "signed_at"}[
                name
            ],
        ) == int(float(number))

    @pytest.mark.parametrize(
        "change",
        [{"type": "res"}, {"type": "event"}, {"type": ""}, {"type": None}, {"method": "connected"}],
    )
    def test_only_a_request_to_connect_is_taken(self, change: dict[str, Any]) -> None:
        frame = {"type": "req", "id": "1", "method": "connect", "params": GOOD}
        assert decode_connect(json.dumps(frame).encode()) is not None
        assert decode_connect(json.dumps(frame | change).encode()) is None
        agree(json.dumps(frame | change).encode())

    @pytest.mark.parametrize("name", ["type", "id", "method", "params"])
    def test_a_connect_that_lacks_a_part_is_not_decoded(self, name: str) -> None:
        frame = {"type": "req", "id": "1", "method": "connect", "params": GOOD}
        del frame[name]
        assert decode_connect(json.dumps(frame).encode()) is None

    @given(sound_frames)
    def test_what_was_converted_says_the_same_again(self, frame: Any) -> None:
        assume("unknown" not in frame)
        typed = decode_connect(json.dumps(frame).encode())
        assert typed is not None
        again = decode_connect(msgspec.json.encode(typed))
        assert again == typed


class TestTexts:
    """Errors use the original's wording, which clients parse."""

    @pytest.mark.parametrize(
        ("params", "problem"),
        [
            ({}, "must have required property 'minProtocol'"),
            (without("client"), "must have required property 'client'"),
            (without("mode", "client"), "at /client: must have required property 'mode'"),
            (without("nonce", "device"), "at /device: must have required property 'nonce'"),
            (
                with_part("device", nonce=""),
                "at /device/nonce: must not have fewer than 1 characters",
            ),
            (with_part("device", signedAt="now"), "at /device/signedAt: must be integer"),
            (with_part("device", signedAt=1.5), "at /device/signedAt: must be integer"),
            (with_part("device", signedAt=True), "at /device/signedAt: must be integer"),
            (with_part("device", signedAt=-1), "at /device/signedAt: must be >= 0"),
            (with_part("device", id=""), "at /device/id: must not have fewer than 1 characters"),
            (
                with_part("client", id="nope"),
                "at /client/id: must be equal to one of the allowed values",
            ),
            (
                with_part("client", id=""),
                "at /client/id: must be equal to one of the allowed values",
            ),
            (
                with_part("client", id="x" * 300),
                "at /client/id: must be equal to one of the allowed values",
            ),
            (
                with_part("client", mode="nope"),
                "at /client/mode: must be equal to one of the allowed values",
            ),
            (
                with_part("client", buildId="x" * 97),
                "at /client/buildId: must not have more than 96 characters",
            ),
            (
                with_part("client", timeZone="x" * 65),
                "at /client/timeZone: must not have more than 64 characters",
            ),
            (with_params(minProtocol=0), "at /minProtocol: must be >= 1"),
            (with_params(role=""), "at /role: must not have fewer than 1 characters"),
            (with_params(role=None), "at /role: must be string"),
            (with_params(scopes="x"), "at /scopes: must be array"),
            (with_params(scopes=["a", ""]), "at /scopes/1: must not have fewer than 1 characters"),
            (with_params(scopes=["x"] * 65), "at /scopes: must not have more than 64 items"),
            (
                with_params(scopes=["x" * 65]),
                "at /scopes/0: must not have more than 64 characters",
            ),
            (with_params(caps=["x"] * 257), "at /caps: must not have more than 256 items"),
            (with_params(auth=[]), "at /auth: must be object"),
            (with_params(auth={"token": 1}), "at /auth/token: must be string"),
            (with_params(permissions={"a": 1}), "at /permissions/a: must be boolean"),
            (
                with_params(permissions={f"p{n}": True for n in range(257)}),
                "at /permissions: must not have more than 256 properties",
            ),
            ([], "must be object"),
            (None, "must be object"),
        ],
    )
    def test_the_first_problem_is_reported(self, params: Any, problem: str) -> None:
        assert schema.params_problems(params, schema.CONNECT_PARAMS)[0] == problem
        agree(framed(params))

    def test_all_problems_are_reported_in_the_order_of_the_schema(self) -> None:
        assert schema.params_problems({"role": 1}, schema.CONNECT_PARAMS) == [
            "must have required property 'minProtocol'",
            "must have required property 'maxProtocol'",
            "must have required property 'client'",
            "at /role: must be string",
        ]

    def test_secrets_and_texts_may_be_empty_where_documented(self) -> None:
        names = ("token", "deviceToken", "bootstrapToken", "password")
        params = with_params(auth=dict.fromkeys(names, ""), pathEnv="", locale="", userAgent="")
        assert schema.params_problems(params, schema.CONNECT_PARAMS) == []

    def test_a_closed_object_names_what_it_does_not_know(self) -> None:
        closed = schema.Object(
            required={"requestId": schema.Text()},
            optional={"label": schema.Text(most=64)},
            closed=True,
        )
        assert schema.params_problems({"requestId": "r", "x": 1}, closed) == [
            "at root: unexpected property 'x'"
        ]
        assert schema.params_problems({"label": "x" * 65}, closed) == [
            "must have required property 'requestId'",
            "at /label: must not have more than 64 characters",
        ]

    def test_made_up_names_are_not_echoed_at_length(self) -> None:
        name = "x" * 60_000
        problems = schema.params_problems(with_params(permissions={name: 1}), schema.CONNECT_PARAMS)
        assert len(problems[0]) < 120
