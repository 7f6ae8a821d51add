"""Frames after hello-ok, and the shapes of outgoing frames."""

from __future__ import annotations

import tracemalloc
from typing import Any

import msgspec
import pytest

from shared.protocol.events import Broadcast, numbered
from shared.protocol.frames import (
    BrokenFrame,
    ErrorBody,
    NotJson,
    RequestFrame,
    decode_request,
    failure,
    success,
)


def broken(text: bytes) -> BrokenFrame:
    with pytest.raises(BrokenFrame) as caught:
        decode_request(text)
    return caught.value


class TestValidRequests:
    def test_a_request_has_id_method_and_params(self) -> None:
        frame = decode_request(b'{"type":"req","id":"1:x","method":"m","params":{"a":1}}')
        assert (frame.id, frame.method) == ("1:x", "m")
        assert msgspec.json.decode(frame.params) == {"a": 1}

    def test_omitted_params_are_empty(self) -> None:
        frame = decode_request(b'{"type":"req","id":"1","method":"m"}')
        assert msgspec.json.decode(frame.params) == {}

    def test_trace_and_profile_may_stand_beside(self) -> None:
        frame = decode_request(
            b'{"type":"req","id":"1","method":"m","traceparent":"","expectedProfileId":"p"}'
        )
        assert (frame.traceparent, frame.expected_profile_id) == ("", "p")

    def test_unknown_fields_are_ignored(self) -> None:
        assert decode_request(b'{"type":"req","id":"1","method":"m","new":[]}').method == "m"

    @pytest.mark.parametrize(
        "text",
        [
            b'{"type":"event","type":"req","id":"0","id":"1","method":5,"method":"m","params":{"a":1}}',
            b'{"type":"req","id":"1","method":"m","params":{"a":0},"params":{"a":1}}',
        ],
    )
    def test_the_last_of_two_equal_keys_wins(self, text: bytes) -> None:
        frame = decode_request(text)
        assert (frame.id, frame.method) == ("1", "m")
        assert msgspec.json.decode(frame.params) == {"a": 1}


class TestBrokenRequests:
    """They are answered with their id, or else `invalid`, and the connection stays open."""

    def test_a_request_without_a_method_is_refused(self) -> None:
        error = broken(b'{"type":"req","id":"1:x"}')
        assert error.frame_id == "1:x"
        assert error.problem == "must have required property 'method'"

    @pytest.mark.parametrize(
        "text",
        [
            b'{"type":"req","method":"m"}',
            b'{"type":"req","id":"","method":"m"}',
            b'{"type":"req","id":7,"method":"m"}',
            b'{"type":"req","id":null,"method":"m"}',
            b'{"type":"event","event":"x"}',
            b'{"type":"event","id":"1","method":"m"}',
            b'{"type":["req"],"id":"1","method":"m"}',
            b'{"id":"1","method":"m"}',
            b"[]",
            b'[{"type":"req","id":"1","method":"m"}]',
            b"null",
            b"7",
            b'"text"',
            b"{}",
        ],
    )
    def test_without_a_request_to_name(self, text: bytes) -> None:
        assert broken(text).frame_id == "invalid"

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            (b"[]", "must be object"),
            (
                b'{"type":"req","id":"1","method":""}',
                "at /method: must not have fewer than 1 characters",
            ),
            (b'{"type":"req","id":"1","method":1}', "at /method: must be string"),
            (
                b'{"type":"res","id":"1","method":"m"}',
                "at /type: must be equal to one of the allowed values",
            ),
            (
                b'{"type":"req","id":"1","method":"m","traceparent":"' + b"x" * 129 + b'"}',
                "at /traceparent: must not have more than 128 characters",
            ),
            (
                b'{"type":"req","id":"1","method":"m","expectedProfileId":""}',
                "at /expectedProfileId: must not have fewer than 1 characters",
            ),
        ],
    )
    def test_the_error_of_a_broken_request_says_what_is_wrong(
        self, text: bytes, problem: str
    ) -> None:
        assert broken(text).problem == problem


class TestNotJson:
    """Frames that are not JSON are ignored after hello-ok."""

    @pytest.mark.parametrize(
        "text",
        [
            b"",
            b"hello",
            b"{",
            b'{"type":"req","id":"1","method":"m"}x',
            b'{"type":"req","id":"1","method":"m",}',
            b"NaN",
            b"\xef\xbb\xbf{}",
        ],
    )
    def test_text_that_is_not_json_is_refused(self, text: bytes) -> None:
        with pytest.raises(NotJson):
            decode_request(text)

    @pytest.mark.parametrize(
        "text",
        [
            b'{"type":"req","id":"1","method":"m","params":"\xc0\xaf"}',
            b'{"type":"req","id":"\xed\xa0\x80","method":"m"}',
            b'{"type":"req","id":"1","method":"m","new":"\xff"}',
            b'{"type":"req","id":"1","method":"m","params":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
            b'{"type":"req","id":"1","method":"m","new":' + b'{"a":' * 10_000,
        ],
        ids=["overlong", "surrogate bytes", "no UTF-8", "deep params", "deep and cut off"],
    )
    def test_frames_that_are_not_utf8_or_too_deep_are_invalid(self, text: bytes) -> None:
        with pytest.raises(NotJson):
            decode_request(text)


class TestLongMalformedFrames:
    """Finding the fault of a long frame would block the event loop for seconds."""

    @pytest.mark.parametrize(
        "tail",
        [b"[]," * 30_000, b'{"a":' * 20_000, b"x" * 70_000, b'"\xff",' * 20_000],
        ids=["many values", "too deep", "not JSON", "no UTF-8"],
    )
    def test_they_get_a_generic_answer(self, tail: bytes) -> None:
        with pytest.raises(BrokenFrame) as caught:
            decode_request(b'{"type":"req","id":"","x":[' + tail)
        assert (caught.value.frame_id, caught.value.problem) == ("invalid", "not a request")

    def test_no_values_are_built_for_them(self) -> None:
        text = b'{"type":"req","id":"","x":[' + b"[]," * 1_000_000 + b"0]}"
        tracemalloc.start()
        with pytest.raises(BrokenFrame):
            decode_request(text)
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak_bytes < len(text)

    def test_a_long_valid_frame_is_decoded(self) -> None:
        text = b'{"type":"req","id":"1","method":"m","params":{"x":"' + b"x" * 100_000 + b'"}}'
        assert decode_request(text).method == "m"


class TestWhatWeSend:
    def decoded(self, text: bytes) -> Any:
        return msgspec.json.decode(text)

    def test_a_success_is_encoded_as_a_response(self) -> None:
        assert self.decoded(success("1", {"a": None})) == {
            "type": "res",
            "id": "1",
            "ok": True,
            "payload": {"a": None},
        }

    def test_a_failure_has_code_and_message(self) -> None:
        assert self.decoded(failure("1", ErrorBody("INVALID_REQUEST", "no"))) == {
            "type": "res",
            "id": "1",
            "ok": False,
            "error": {"code": "INVALID_REQUEST", "message": "no"},
        }

    def test_a_failure_may_have_details_and_a_retry_hint(self) -> None:
        error = ErrorBody("UNAVAILABLE", "later", {"a": 1}, retryable=True, retry_after_ms=500)
        assert self.decoded(failure("1", error))["error"] == {
            "code": "UNAVAILABLE",
            "message": "later",
            "details": {"a": 1},
            "retryable": True,
            "retryAfterMs": 500,
        }

    def test_a_broadcast_carries_its_number_and_version(self) -> None:
        received = Broadcast("a", b'{"b":1}')
        assert self.decoded(numbered(received.head(), 3)) == {
            "type": "event",
            "event": "a",
            "payload": {"b": 1},
            "seq": 3,
        }
        received = Broadcast("a", b"[]", presence_version=7)
        version = self.decoded(numbered(received.head(), 1))["stateVersion"]
        assert version == {"presence": 7, "health": 0}

    def test_a_request_is_what_we_read(self) -> None:
        frame = RequestFrame(type="req", id="1", method="m")
        assert decode_request(msgspec.json.encode(frame)) == frame
