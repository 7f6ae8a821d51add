"""The handshake, from challenge to verdict: frames and answers in, what to do next out. Pure.

The shell sends the challenge, hands the first frame to `on_frame`, and does what comes back: ask
approval and hand the answer to `on_answer`, let the client in, or turn it away.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from services.gateway import first_frame
from services.gateway.origin import origin_problem
from services.gateway.verifier import verify_device
from shared.messages import (
    BOOTSTRAP_TOKEN,
    SHARED_SECRET,
    Admission,
    Admitted,
    Answer,
    Clear,
    ClientInfo,
    Denied,
    Knock,
    Locked,
    NeedsPairing,
)
from shared.protocol import refusals
from shared.protocol.connect import (
    BROWSER_CLIENT_IDS,
    CONTROL_UI_CLIENT_IDS,
    Auth,
    ConnectFrame,
    ConnectParams,
    decode_connect,
)
from shared.protocol.hello import Grant
from shared.protocol.limits import DISPLAY_NAME_LIMIT_CHARACTERS, PROTOCOLS
from shared.protocol.refusals import PairingNeeded, Refusal

if TYPE_CHECKING:
    from shared.settings import Secrets

_NO_AUTH: Final = Auth()
_ROLES: Final = ("operator", "node")


class State(Enum):
    """Where a handshake stands; it only moves down."""

    CHALLENGED = auto()
    ASKING = auto()
    DONE = auto()


@dataclass(frozen=True, slots=True)
class Peer:
    """What is known of a client before its first frame.

    `address` is the client's own, behind whatever proxy. `host` and `origin` are HTTP headers.
    """

    address: str
    direct_loopback: bool
    host: str
    origin: str | None


@dataclass(frozen=True, slots=True)
class Rules:
    """What the gateway's settings say about who may try."""

    gateway_tokens: Secrets
    allowed_origins: frozenset[str]


@dataclass(frozen=True, slots=True)
class Welcome:
    """The client is admitted: what to tell it, and what its connection may do."""

    frame_id: str
    protocol: int
    grant: Grant
    device_id: str
    client: ClientInfo
    answer: Admitted | None
    """What approval said; None where there was no device to ask about."""


Effect = Admission | Knock | Welcome | Refusal


class Handshake:
    """One connection's handshake."""

    __slots__ = (
        "_frame",
        "_if_clear",
        "_peer",
        "_question",
        "_rules",
        "connection_id",
        "frame_id",
        "nonce",
        "protocol",
        "state",
        "wire_bytes",
    )

    def __init__(self, connection_id: str, nonce: str, peer: Peer, rules: Rules) -> None:
        self.connection_id = connection_id
        self.frame_id = ""
        """The id of the client's request, to answer under; empty where it had none."""
        self.nonce = nonce
        self.state = State.CHALLENGED
        self.protocol = PROTOCOLS[0]
        self.wire_bytes = 0
        """What the first frame took on the wire; more than that has come when more was received."""
        self._peer = peer
        self._rules = rules
        self._frame: ConnectFrame | None = None
        self._question: Admission | None = None
        self._if_clear: Welcome | Refusal | None = None

    @property
    def question(self) -> Admission | None:
        """What approval was asked, once it was."""
        return self._question

    @property
    def client(self) -> ClientInfo | None:
        """What the client says it is, once it said so in a sound frame."""
        return _client_info(self._frame.params) if self._frame else None

    @property
    def device_id(self) -> str:
        """The device id that the client claims; empty without one."""
        device = self._frame.params.device if self._frame else None
        return device.id if device else ""

    def on_frame(self, text: bytes, *, now_ms: int) -> Effect:
        """Judge the first frame; returns what to do.

        `now_ms` is the wall clock, for the age of the signature.
        """
        self.wire_bytes = first_frame.masked_bytes(len(text))
        frame = decode_connect(text)
        if frame is None:
            self.frame_id, found = first_frame.explained(text)
            if isinstance(found, Refusal):
                return self._refused(found)
            frame = found
        self._frame = frame
        self.frame_id = frame.id
        effect = self._judged(frame.params, now_ms)
        if isinstance(effect, Refusal):
            return self._refused(effect)
        if isinstance(effect, Admission | Knock):
            self.state = State.ASKING
            self._question = effect if isinstance(effect, Admission) else None
        else:
            self.state = State.DONE
        return effect

    def on_answer(self, answer: Answer) -> Welcome | Refusal:
        """Turn approval's answer into what the client is told."""
        if isinstance(answer, Locked):
            return self._refused(refusals.rate_limited(answer.retry_after_ms))
        if isinstance(answer, Clear) and self._if_clear is not None:
            return self._settled(self._if_clear)
        question = self._question
        if question is None or self._frame is None:
            message = "an answer that fits no question"
            raise RuntimeError(message)
        if isinstance(answer, Admitted):
            self.state = State.DONE
            grant = Grant(
                method=question.method,
                role=question.role,
                scopes=question.scopes,
                device_token=answer.device_token,
                token_scopes=answer.token_scopes,
                issued_at_ms=answer.issued_at_ms,
            )
            return Welcome(
                self._frame.id,
                self.protocol,
                grant,
                question.device_id,
                question.client,
                answer,
            )
        if isinstance(answer, NeedsPairing):
            needed = PairingNeeded(
                reason=answer.reason,
                request_id=answer.request_id,
                device_id=question.device_id,
                role=question.role,
                scopes=question.scopes,
                approved_roles=answer.approved_roles,
                approved_scopes=answer.approved_scopes,
                waits_itself=question.client.id == "openclaw-control-ui"
                and question.role == "operator",
            )
            return self._refused(refusals.pairing_required(needed, self.protocol))
        if isinstance(answer, Denied):
            return self._refused(self._denied(answer, question))
        return self.on_unavailable("pending-limit", "approval", retry_after_ms=10_000)

    def on_unavailable(self, reason: str, dependency: str, *, retry_after_ms: int) -> Refusal:
        """Turn the client away for now, because something we depend on did not answer."""
        return self._refused(refusals.unavailable(reason, dependency, retry_after_ms))

    def _settled(self, outcome: Welcome | Refusal) -> Welcome | Refusal:
        if isinstance(outcome, Refusal):
            return self._refused(outcome)
        self.state = State.DONE
        return outcome

    def _refused(self, refusal: Refusal) -> Refusal:
        self.state = State.DONE
        return refusal.with_detail("connectionId", self.connection_id)

    def _judged(self, params: ConnectParams, now_ms: int) -> Effect:
        """Go through contract §4, steps 3 and 6 to 12."""
        version = first_frame.common_version(params.min_protocol, params.max_protocol)
        role = params.role or "operator"
        if first_frame.is_worker(params.client.id, params.client.mode, role, version):
            return refusals.WORKER
        if version is None:
            return refusals.protocol_mismatch(params.min_protocol, params.max_protocol)
        self.protocol = version
        if role not in _ROLES:
            return refusals.INVALID_ROLE
        if self._peer.origin is not None or params.client.id in BROWSER_CLIENT_IDS:
            problem = origin_problem(
                self._peer.origin,
                self._peer.host,
                self._rules.allowed_origins,
                direct_loopback=self._peer.direct_loopback,
            )
            if problem is not None:
                return refusals.origin_not_allowed(problem)
        return self._with_secrets(params, role, version, now_ms)

    def _with_secrets(self, params: ConnectParams, role: str, version: int, now_ms: int) -> Effect:
        """Go through contract §4, steps 9 to 12."""
        auth = params.auth or _NO_AUTH
        offered = self._offered(auth)
        secret_is_right = any(self._rules.gateway_tokens.accepts(one) for one in offered)
        if not params.device:
            return self._without_device(params, role, offered, secret_is_right=secret_is_right)
        scopes = params.scopes or []
        proof = verify_device(
            params, params.device, role=role, scopes=scopes, nonce=self.nonce, now_ms=now_ms
        )
        if isinstance(proof, Refusal):
            return proof
        candidate, field = ("", "") if secret_is_right else _device_token_candidate(auth)
        if not secret_is_right and field != "deviceToken" and auth.bootstrap_token:
            return self._knock([BOOTSTRAP_TOKEN], refusals.bootstrap_token_invalid(self.protocol))
        if not secret_is_right and not candidate:
            if not offered:
                return refusals.token_missing(self._hint(params, missing=True))
            hint = self._hint(params, missing=False)
            return self._knock([SHARED_SECRET], refusals.token_mismatch(hint, with_device=False))
        return Admission(
            call_id=self.connection_id,
            device_id=params.device.id,
            public_key=proof,
            role=role,
            scopes=scopes,
            client=_client_info(params),
            method="token" if secret_is_right else "device-token",
            address=self._peer.address,
            protocol=version,
            candidate=candidate,
            candidate_field=field,
            wrong_secret=bool(offered) and not secret_is_right,
            guessed_secret=not secret_is_right and any(one != candidate for one in offered),
        )

    def _offered(self, auth: Auth) -> list[str]:
        """Return the gateway tokens that a client brought: protocol 3 knows one field for them."""
        fields = [auth.token]
        if self.protocol != refusals.PROTOCOL_3:
            fields.append(auth.password)
        return [secret for secret in fields if secret]

    def _without_device(
        self,
        params: ConnectParams,
        role: str,
        offered: list[str],
        *,
        secret_is_right: bool,
    ) -> Knock | Refusal:
        """Judge a client that proves no device (contract §4.1): it never keeps a scope."""
        if params.client.id in CONTROL_UI_CLIENT_IDS:
            return refusals.CONTROL_UI_DEVICE_REQUIRED
        if offered and not secret_is_right:
            hint = self._hint(params, missing=False)
            return self._knock([SHARED_SECRET], refusals.token_mismatch(hint, with_device=False))
        if not secret_is_right or role != "operator":
            return refusals.DEVICE_REQUIRED
        grant = Grant(method="token", role=role, scopes=())
        welcome = Welcome(self.frame_id, self.protocol, grant, "", _client_info(params), None)
        return self._knock([SHARED_SECRET], welcome)

    def _knock(self, classes: list[str], if_clear: Welcome | Refusal) -> Knock:
        """Have approval count what was offered before the client hears of it."""
        self._if_clear = if_clear
        return Knock(
            call_id=self.connection_id,
            address=self._peer.address,
            classes=classes,
            right=isinstance(if_clear, Welcome),
        )

    def _denied(self, answer: Denied, question: Admission) -> Refusal:
        if answer.why == "scope-mismatch":
            return refusals.SCOPE_MISMATCH
        if answer.why == "key-mismatch":
            return refusals.DEVICE_ID_MISMATCH
        if question.candidate_field == "deviceToken" or self._frame is None:
            return refusals.DEVICE_TOKEN_MISMATCH
        hint = self._hint(self._frame.params, missing=False)
        return refusals.token_mismatch(hint, with_device=True)

    def _hint(self, params: ConnectParams, *, missing: bool) -> str:
        return refusals.token_hint(
            params.client.id,
            params.client.mode,
            missing=missing,
            local=self._peer.direct_loopback and self.protocol != refusals.PROTOCOL_3,
        )


def _device_token_candidate(auth: Auth) -> tuple[str, str]:
    """Return the text that may be a device token, and the field of `auth` it stood in."""
    if auth.device_token:
        return auth.device_token, "deviceToken"
    if auth.token:
        return auth.token, "token"
    return "", ""


def _client_info(params: ConnectParams) -> ClientInfo:
    client = params.client
    return ClientInfo(
        id=client.id,
        mode=client.mode,
        version=client.version,
        platform=client.platform,
        device_family=client.device_family or "",
        display_name=(client.display_name or "")[:DISPLAY_NAME_LIMIT_CHARACTERS],
    )
