"""JSON that two parsers could read differently is read in one defined way."""

from __future__ import annotations

import json

import pytest

from shared.protocol import schema
from shared.protocol.connect import ConnectFrame, connect_from, decode_connect

CONNECT = (
    '{"type":"req","id":"1","method":"connect","params":{"minProtocol":4,"maxProtocol":4,'
    '"client":{"id":"cli","version":"1","platform":"linux","mode":"cli"},"role":"operator"}}'
)


def read(text: str | bytes) -> ConnectFrame:
    """Read a first frame with the fast decoder, or else the slow one."""
    data = text.encode() if isinstance(text, str) else text
    quick = decode_connect(data)
    if quick is not None:
        return quick
    value = schema.parse(data)
    assert schema.request_problem(value) is None
    assert schema.params_problems(value["params"], schema.CONNECT_PARAMS) == []
    return connect_from(value)


def is_no_json(data: bytes) -> None:
    assert decode_connect(data) is None
    with pytest.raises(ValueError):
        schema.parse(data)


class TestDuplicateKeys:
    @pytest.mark.parametrize("first", ['"node"', "7", "null", '""', '{"a":1}'])
    def test_the_last_role_wins(self, first: str) -> None:
        text = CONNECT.replace('"role":', f'"role":{first},"role":')
        assert read(text).params.role == "operator"

    def test_the_last_client_object_replaces_earlier_ones(self) -> None:
        """Two objects are not merged: fields of only the first are lost."""
        first = '"client":{"id":"test","version":"1","platform":"x","mode":"ui","displayName":"d"},'
        client = read(CONNECT.replace('"client":', f'{first}"client":')).params.client
        assert (client.id, client.mode, client.platform) == ("cli", "cli", "linux")
        assert not client.display_name

    def test_the_last_params_object_replaces_earlier_ones(self) -> None:
        text = CONNECT.replace('"params":', '"params":{"auth":{"token":"t"}},"params":')
        assert not read(text).params.auth

    def test_an_escaped_key_is_the_same_key(self) -> None:
        text = CONNECT.replace('"role":"operator"', '"role":"operator","r\\u006fle":"node"')
        assert read(text).params.role == "node"

    def test_the_last_type_wins(self) -> None:
        assert read(CONNECT.replace('"type":', '"type":"event","type":')).type == "req"
        assert decode_connect(CONNECT.replace('"req"', '"req","type":"event"').encode()) is None


class TestNames:
    @pytest.mark.parametrize("name", ["__proto__", "constructor", "__class__", "__dict__", ""])
    def test_no_key_name_is_special(self, name: str) -> None:
        spoiled = CONNECT.replace('"role":', f'"{name}":{{"role":"node","scopes":["x"]}},"role":')
        assert read(spoiled) == read(CONNECT)

    def test_keys_that_only_look_alike_are_distinct(self) -> None:
        text = CONNECT.replace(
            '"role":"operator"', '"role":"operator","r\u043ele":"node","Role":"node"'
        )
        assert read(text).params.role == "operator"


class TestTexts:
    def test_an_escaped_nul_is_a_character(self) -> None:
        platform = read(CONNECT.replace('"linux"', '"a\\u0000b"')).params.client.platform
        assert platform == "a\x00b"

    def test_a_raw_nul_is_not_json(self) -> None:
        is_no_json(CONNECT.replace("linux", "a\x00b").encode())

    def test_a_surrogate_pair_is_one_character(self) -> None:
        text = CONNECT.replace('"linux"', '"\\ud83d\\udd11"')
        assert read(text).params.client.platform == "🔑"

    @pytest.mark.parametrize(
        "lone", ["\\ud800", "\\udc00", "\\udc00\\ud800", "\\ud800x", "\\uD83D\\n"]
    )
    def test_a_lone_surrogate_is_no_json(self, lone: str) -> None:
        """UTF-8 cannot encode it, so it could be neither signed nor stored."""
        is_no_json(CONNECT.replace("linux", lone).encode())

    @pytest.mark.parametrize(
        "raw",
        [
            b"\xc0\xaf",
            b"\xc1\xbf",
            b"\xe0\x80\xaf",
            b"\xf0\x80\x80\xaf",
            b"\xed\xa0\x80",
            b"\xf4\x90\x80\x80",
            b"\xff",
            b"\xc3",
        ],
        ids=[
            "overlong 2",
            "overlong 2b",
            "overlong 3",
            "overlong 4",
            "surrogate",
            "over 10FFFF",
            "ff",
            "cut off",
        ],
    )
    def test_invalid_utf8_is_not_json(self, raw: bytes) -> None:
        is_no_json(CONNECT.encode().replace(b"linux", raw))
        is_no_json(CONNECT.encode().replace(b'"role":', b'"unknown":"' + raw + b'","role":'))
        is_no_json(CONNECT.encode() + raw)


class TestNumbers:
    @pytest.mark.parametrize(
        "number", ["1e999", "-1e999", "1" + "0" * 5000, "NaN", "Infinity", "0x4", "04", "+4"]
    )
    def test_numbers_out_of_range_are_no_json(self, number: str) -> None:
        is_no_json(CONNECT.replace('"minProtocol":4', f'"minProtocol":{number}').encode())

    @pytest.mark.parametrize("number", ["1e30", "1e308", "1" + "0" * 400])
    def test_large_numbers_keep_their_value(self, number: str) -> None:
        frame = read(CONNECT.replace('"maxProtocol":4', f'"maxProtocol":{number}'))
        assert frame.params.max_protocol >= 10**30

    def test_a_truth_value_is_no_number(self) -> None:
        value = json.loads(CONNECT.replace('"minProtocol":4', '"minProtocol":true'))
        assert schema.params_problems(value["params"], schema.CONNECT_PARAMS)


class TestDepth:
    @pytest.mark.parametrize(("opened", "closed"), [("[", "]"), ('{"a":', "}")])
    @pytest.mark.parametrize("place", ['"unknown":', '"role":', '"scopes":', '"client":'])
    def test_json_nested_too_deeply_is_refused(self, place: str, opened: str, closed: str) -> None:
        depth = 5_000
        deep = place + opened * depth + "1" + closed * depth + ',"minProtocol"'
        is_no_json(CONNECT.replace('"minProtocol"', deep).encode())

    def test_a_frame_nested_too_deeply_as_a_whole_is_not_json(self) -> None:
        is_no_json(b"[" * 65_536)
        is_no_json(b"[" * 30_000 + b"]" * 30_000)
