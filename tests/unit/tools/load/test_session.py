from __future__ import annotations

from typing import cast

import msgspec
import pytest

from tests.support.server_frames import accepting, server_frame
from tools.load.devices import Identity, LoadDevice
from tools.load.session import Session
from tools.load.verdicts import Kind, Outcome
from tools.load.wire import CLOSE, PING, PONG, TEXT, close_frame, control_frame, upgrade_request

UPGRADE = upgrade_request("gateway.example", "/")
CHALLENGE = server_frame(
    TEXT, b'{"type":"event","event":"connect.challenge","payload":{"nonce":"n-1","ts":5}}'
)
HELLO = server_frame(
    TEXT, b'{"type":"res","id":"1","ok":true,"payload":{"type":"hello-ok","auth":{}}}'
)
TICK = server_frame(TEXT, b'{"type":"event","event":"tick","payload":{}}')
UNAVAILABLE = server_frame(
    TEXT, b'{"type":"res","id":"1","ok":false,"error":{"code":"UNAVAILABLE","message":"x"}}'
)
TRY_AGAIN = server_frame(CLOSE, (1013).to_bytes(2, "big") + b"redis unavailable")


class Wire:
    """A transport that records what is written."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def abort(self) -> None:
        self.aborted = True


class Opener:
    """An owner that records its callbacks."""

    upgrade = UPGRADE

    def __init__(self) -> None:
        self.inside: list[Session] = []
        self.over: list[Session] = []

    def admitted(self, session: Session) -> None:
        self.inside.append(session)

    def ended(self, session: Session) -> None:
        self.over.append(session)


class Conversation:
    """A session with both its ends."""

    def __init__(self) -> None:
        self.owner = Opener()
        self.wire = Wire()
        self.session = Session(self.owner, LoadDevice(Identity(b"\x05" * 32), "token", 0), 1.0)
        self.session.connection_made(cast("object", self.wire))  # type: ignore[arg-type]

    def hears(self, *data: bytes) -> None:
        for piece in data:
            self.session.data_received(piece)

    def ends(self, error: Exception | None = None) -> Outcome:
        self.session.connection_lost(error)
        assert self.owner.over == [self.session]
        return self.session.outcome


class TestAdmission:
    def test_an_admission_is_reported_once_and_the_socket_closed_properly(self) -> None:
        one = Conversation()
        one.hears(accepting(UPGRADE) + CHALLENGE, TICK, HELLO)
        assert one.owner.inside == [one.session]
        assert one.wire.sent[0] == UPGRADE
        connect = msgspec.json.decode(one.wire.sent[1][8:])
        assert connect["params"]["device"]["nonce"] == "n-1"
        one.session.leave()
        one.hears(server_frame(CLOSE, b"\x03\xe8"))
        assert one.wire.sent[2:] == [close_frame(1000)]
        assert one.ends() == Outcome(Kind.ADMITTED)
        assert one.session.began < one.session.decided <= one.session.over_at

    def test_an_admission_is_read_from_any_pieces(self) -> None:
        whole = accepting(UPGRADE) + CHALLENGE + TICK + HELLO
        for size in (1, 2, 3, 7, 64, len(whole)):
            one = Conversation()
            one.hears(*(whole[at : at + size] for at in range(0, len(whole), size)))
            assert one.owner.inside == [one.session]

    def test_pings_are_answered_and_ticks_ignored(self) -> None:
        one = Conversation()
        one.hears(accepting(UPGRADE) + CHALLENGE + HELLO)
        one.hears(TICK + server_frame(PING, b"p"))
        assert one.wire.sent[2:] == [control_frame(PONG, b"p")]

    def test_a_close_by_the_gateway_is_answered_and_recorded(self) -> None:
        one = Conversation()
        one.hears(accepting(UPGRADE) + CHALLENGE + HELLO)
        one.hears(server_frame(CLOSE, (4001).to_bytes(2, "big") + b"device removed"))
        assert one.wire.sent[2:] == [close_frame(4001)]
        assert one.session.close == (4001, "device removed")


class TestNoAdmission:
    def test_a_refusal_is_reported_with_its_close(self) -> None:
        one = Conversation()
        one.hears(accepting(UPGRADE) + CHALLENGE, UNAVAILABLE + TRY_AGAIN)
        assert not one.owner.inside
        assert one.ends() == Outcome(Kind.UNAVAILABLE, "UNAVAILABLE", 1013, "redis unavailable")

    @pytest.mark.parametrize(
        ("data", "problem"),
        [
            (b"HTTP/1.1 503 Service Unavailable\r\n\r\nToo many", "HTTP 503 Too many"),
            (b"x" * 20_000, "no end of the HTTP head"),
            (accepting(UPGRADE) + b"\x01\x00", "a frame in parts or compressed"),
            (accepting(UPGRADE) + TICK, "no connect.challenge"),
            (accepting(UPGRADE) + CHALLENGE + server_frame(TEXT, b"[]"), "no answer to connect"),
        ],
    )
    def test_an_invalid_answer_aborts_the_connection(self, data: bytes, problem: str) -> None:
        one = Conversation()
        one.hears(data)
        assert one.wire.aborted
        assert one.ends() == Outcome(Kind.FAILED, problem)

    def test_a_cut_connection_is_reported_with_its_error(self) -> None:
        one = Conversation()
        assert one.ends(ConnectionResetError()).what == "ConnectionResetError"

    def test_a_connection_that_did_not_open_is_reported_with_its_error(self) -> None:
        one = Conversation()
        one.session.not_opened("ECONNREFUSED")
        assert one.ends().what == "ECONNREFUSED"
