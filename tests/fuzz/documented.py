"""What a gateway may answer according to docs/protocol.md: the oracle of the fuzz tests."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from hypothesis import event

from shared.protocol.closing import cut_reason
from shared.protocol.methods import METHODS
from tests.support.websocket.raw_socket import CLOSE, PING, PONG, TEXT

if TYPE_CHECKING:
    from tests.support.websocket.raw_socket import Frame

INVALID_FRAME_CLOSES: Final = {
    (1000, ""),
    (1002, ""),
    (1007, ""),  # a close frame whose reason is not UTF-8 (RFC 6455 §8.1)
    (1008, "invalid-handshake"),
    (1008, "invalid request frame"),
    (1008, "too many pending handshake frames"),
    (1009, ""),
}
"""Closes without a preceding error frame."""

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
    r"missing scope: operator\.\w+|unauthorized role: (operator|node)|"
    rf"invalid ({'|'.join(map(re.escape, METHODS))}) params: .+",
    re.DOTALL,
)

PAYLOADS: Final = ({"ok", "ts"}, {"done"})
"""The results of `health` and of the scripted approval."""


def check_refusal(error: dict[str, Any], close: tuple[int, str]) -> None:
    """Check a refusal against the documented ones."""
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
    """Check everything after the challenge; returns whether it was hello-ok."""
    messages = [frame for frame in frames if frame.opcode != PONG]
    if not messages:
        return False
    first = messages[0]
    if first.opcode == TEXT and first.json["ok"]:
        assert first.json["payload"]["type"] == "hello-ok"
        event("admitted")
        check_after(messages[1:], own_close)
        return True
    if first.opcode == TEXT:
        answer, closing = first.json, messages[1].close
        assert answer.keys() == {"type", "id", "ok", "error"}
        check_refusal(answer["error"], closing)
    else:
        event(f"closed: {first.close}")
        assert tuple(first.close) in INVALID_FRAME_CLOSES or first.close.code in own_close
    assert messages[-1].opcode == CLOSE, "nothing comes after the close"
    assert [frame.opcode for frame in messages].count(CLOSE) == 1
    return False


def check_after(frames: list[Frame], own_close: set[int]) -> None:
    """Check an answer after hello-ok against the documented ones."""
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
                assert answer["payload"].keys() in PAYLOADS
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


def echoed(sent: bytes) -> set[int]:
    """Return the close codes that answer close frames anywhere in the input."""
    sendable = {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}
    found = {1000}
    for at in range(len(sent) - 7):
        if sent[at] & 0x0F == CLOSE:
            found.add(int.from_bytes(sent[at + 6 : at + 8], "big"))
    return found & sendable
