"""Builders for attempts at the pure handshake: client, address and credentials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import structs

from services.gateway.handshake.handshake import Handshake, State
from services.gateway.handshake.outcome import Accepted, AuthConfig, Effect, RequestInfo
from shared.device.handshake import Challenge, Credentials, connect_request
from shared.device.identity import DeviceKey
from shared.device.profile import CLI, Profile
from shared.protocol.closing import cut_reason
from shared.protocol.frames import failure
from shared.protocol.refusals import Refusal
from shared.rpc.messages import (
    SHARED_SECRET,
    Answer,
    AuthorizeDevice,
    Position,
    ReportSecret,
    SecretAccepted,
)
from shared.secret_digests import SecretDigests
from shared.settings.environment import Secrets

if TYPE_CHECKING:
    from collections.abc import Callable

Frame = dict[str, Any]

NONCE: Final = "619d49e9-6fc6-48c8-8273-91ccbf4f7259"
NOW_MS: Final = 1_795_328_509_349
CHALLENGE: Final = Challenge(NONCE, NOW_MS)
TOKEN: Final = "gateway-token-of-32-characters-00"
OLDER_TOKEN: Final = "gateway-token-of-32-characters-99"
PAGE: Final = "https://ok.example"
CONNECTION_ID: Final = "boot:7"
CLEAR: Final = SecretAccepted(Position(1, "tag"))

KEY: Final = DeviceKey.from_seed(b"\x11" * 32)
OTHER_KEY: Final = DeviceKey.from_seed(b"\x22" * 32)

DIGESTS: Final = SecretDigests(["the bus secret of these attempts"])
RULES: Final = AuthConfig(Secrets([TOKEN, OLDER_TOKEN]), frozenset({PAGE}), DIGESTS)
REMOTE: Final = RequestInfo(
    "203.0.113.7", direct_loopback=False, host="gateway.example", origin=None
)
BROWSER: Final = structs.replace(REMOTE, origin=PAGE)
LOCAL: Final = RequestInfo("127.0.0.1", direct_loopback=True, host="127.0.0.1:18789", origin=None)


def new_handshake(
    peer: RequestInfo = REMOTE, *, nonce: str = NONCE, connection_id: str = CONNECTION_ID
) -> Handshake:
    """Return a handshake whose challenge was just sent."""
    return Handshake(connection_id, nonce, peer, RULES)


def connect(
    profile: Profile = CLI,
    *,
    key: DeviceKey | None = KEY,
    token: str | None = TOKEN,
    challenge: Challenge = CHALLENGE,
    **secrets: str,
) -> Frame:
    """Return a validly signed connect; `secrets` are device_token, bootstrap_token, password."""
    return connect_request(challenge, key, profile, Credentials(token=token, **secrets), "1:x")


def alter(frame: Frame, change: Callable[[Frame], object]) -> Frame:
    """Return a copy of a connect whose params were changed after it was signed."""
    copy: Frame = msgspec.json.decode(msgspec.json.encode(frame))
    change(copy["params"])
    return copy


def to_bytes(frame: Any) -> bytes:
    """Return a frame's bytes: bytes as they are, everything else as JSON."""
    return frame if isinstance(frame, bytes) else msgspec.json.encode(frame)


def evaluate(frame: Any, peer: RequestInfo = REMOTE, *, now_ms: int = NOW_MS) -> Effect:
    """Pass a first frame to a new handshake; returns its outcome."""
    return new_handshake(peer).on_frame(to_bytes(frame), now_ms=now_ms)


def question_of(frame: Any, peer: RequestInfo = REMOTE, *, now_ms: int = NOW_MS) -> AuthorizeDevice:
    """Return the request that a first frame leads to."""
    effect = evaluate(frame, peer, now_ms=now_ms)
    assert isinstance(effect, AuthorizeDevice), effect
    return effect


def refusal_of(frame: Any, peer: RequestInfo = REMOTE, *, now_ms: int = NOW_MS) -> Refusal:
    """Return the refusal of a first frame that needs no request."""
    effect = evaluate(frame, peer, now_ms=now_ms)
    assert isinstance(effect, Refusal), effect
    return effect


def after_report(
    frame: Any,
    peer: RequestInfo = REMOTE,
    answer: Answer = CLEAR,
    *,
    classes: tuple[str, ...] = (SHARED_SECRET,),
    right: bool,
) -> Accepted | Refusal:
    """Check the secret report of a first frame; returns the outcome of approval's answer."""
    handshake = new_handshake(peer)
    effect = handshake.on_frame(to_bytes(frame), now_ms=NOW_MS)
    assert isinstance(effect, ReportSecret), effect
    assert effect == ReportSecret(
        CONNECTION_ID, peer.address, list(classes), right, guesses=effect.guesses
    )
    assert set(classes) == {guess.credential for guess in effect.guesses} or right
    assert handshake.state is State.ASKING
    outcome = handshake.on_answer(answer)
    assert handshake.state.name == "DONE"
    return outcome


def refusal_of_wrong_secret(
    frame: Any, peer: RequestInfo = REMOTE, *, classes: tuple[str, ...] = (SHARED_SECRET,)
) -> Refusal:
    """Return the refusal of a wrong secret once approval has counted it."""
    effect = after_report(frame, peer, classes=classes, right=False)
    assert isinstance(effect, Refusal), effect
    return effect


def acceptance_of(frame: Any, peer: RequestInfo = REMOTE) -> Accepted:
    """Return the outcome Accepted of a right secret without a device."""
    effect = after_report(frame, peer, right=True)
    assert isinstance(effect, Accepted), effect
    return effect


def outcome_after(frame: Any, answer: Answer, peer: RequestInfo = REMOTE) -> Accepted | Refusal:
    """Pass a first frame, then approval's answer; returns the outcome."""
    handshake = new_handshake(peer)
    effect = handshake.on_frame(to_bytes(frame), now_ms=NOW_MS)
    assert isinstance(effect, AuthorizeDevice), effect
    return handshake.on_answer(answer)


def refusal_after(frame: Any, answer: Answer, peer: RequestInfo = REMOTE) -> Refusal:
    """Return the refusal that approval's answer leads to."""
    effect = outcome_after(frame, answer, peer)
    assert isinstance(effect, Refusal), effect
    return effect


def client_view(refusal: Refusal) -> tuple[Frame | None, int, str]:
    """Return the client's view: the error or None, the close code, and the reason."""
    error = None
    if refusal.error is not None:
        error = msgspec.json.decode(failure("1:x", refusal.error))["error"]
    return error, int(refusal.close_code), cut_reason(refusal.close_reason)


def detail_code(refusal: Refusal) -> str:
    """Return a refusal's detail code, else its message, else its reason."""
    error, _, reason = client_view(refusal)
    if error is None:
        return reason
    return str(error["details"].get("code", error["message"]))
