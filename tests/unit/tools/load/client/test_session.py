from __future__ import annotations

from typing import cast

import msgspec
import pytest

from tests.support.websocket.server_frames import accepting, server_frame
from tools.load.client.devices import Identity, LoadDevice
from tools.load.client.session import Session
from tools.load.client.verdicts import Kind, Outcome
from tools.load.client.wire import (
    CLOSE,
    PING,
    PONG,
    TEXT,
    close_frame,
    control_frame,
    upgrade_request,
)

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
        conversation = Conversation()
        conversation.hears(accepting(UPGRADE) + CHALLENGE, TICK, HELLO)
        assert conversation.owner.inside == [conversation.session]
        assert conversation.wire.sent[0] == UPGRADE
        connect = msgspec.json.decode(conversation.wire.sent[1][8:])
        assert connect["params"]["device"]["nonce"] == "n-1"
        conversation.session.leave()
        conversation.hears(server_frame(CLOSE, b"\x03\xe8"))
        assert conversation.wire.sent[2:] == [close_frame(1000)]
        assert conversation.ends() == Outcome(Kind.ADMITTED)
        assert (
            conversation.session.began
            < conversation.session.decided
            <= conversation.session.over_at
        )

    def test_an_admission_is_read_from_any_pieces(self) -> None:
        whole = accepting(UPGRADE) + CHALLENGE + TICK + HELLO
        for size in (1, 2, 3, 7, 64, len(whole)):
            conversation = Conversation()
            conversation.hears(*(whole[at : at + size] for at in range(0, len(whole), size)))
            assert conversation.owner.inside == [conversation.session]

    def test_pings_are_answered_and_ticks_ignored(self) -> None:
        conversation = Conversation()
        conversation.hears(accepting(UPGRADE) + CHALLENGE + HELLO)
        conversation.hears(TICK + server_frame(PING, b"p"))
        assert conversation.wire.sent[2:] == [control_frame(PONG, b"p")]

    def test_a_close_by_the_gateway_is_answered_and_recorded(self) -> None:
        conversation = Conversation()
        conversation.hears(accepting(UPGRADE) + CHALLENGE + HELLO)
        conversation.hears(server_frame(CLOSE, (4001).to_bytes(2, "big") + b"device removed"))
        assert conversation.wire.sent[2:] == [close_frame(4001)]
        assert conversation.session.close == (4001, "device removed")


class TestNoAdmission:
    def test_a_refusal_is_reported_with_its_close(self) -> None:
        conversation = Conversation()
        conversation.hears(accepting(UPGRADE) + CHALLENGE, UNAVAILABLE + TRY_AGAIN)
        assert not conversation.owner.inside
        assert conversation.ends() == Outcome(
            Kind.UNAVAILABLE, "UNAVAILABLE", 1013, "redis unavailable"
        )

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
        conversation = Conversation()
        conversation.hears(data)
        assert conversation.wire.aborted
        assert conversation.ends() == Outcome(Kind.FAILED, problem)

    def test_a_cut_connection_is_reported_with_its_error(self) -> None:
        conversation = Conversation()
        assert conversation.ends(ConnectionResetError()).what == "ConnectionResetError"

    def test_a_connection_that_did_not_open_is_reported_with_its_error(self) -> None:
        conversation = Conversation()
        conversation.session.not_opened("ECONNREFUSED")
        assert conversation.ends().what == "ECONNREFUSED"
