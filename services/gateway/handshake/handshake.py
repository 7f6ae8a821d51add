"""The state machine of the handshake, from challenge to outcome. Pure.

The session handler sends the challenge, passes the first frame to `on_frame` and carries out the
returned effect: ask approval and pass the answer to `on_answer`, admit the client, or refuse it.
"""

from __future__ import annotations

import os
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from services.gateway.handshake.evaluation import Evaluation, common_version, is_worker
from services.gateway.handshake.outcome import Accepted, Effect, Session
from shared.device_tokens import with_device_id
from shared.protocol import refusals, schema
from shared.protocol.connect import connect_from, decode_connect
from shared.protocol.hello import Grant, MoreToken
from shared.protocol.limits import PROTOCOLS
from shared.protocol.refusals import PairingNeeded, Refusal
from shared.rpc.messages import (
    Admitted,
    Answer,
    AuthorizeDevice,
    ClientInfo,
    Denied,
    LockedOut,
    NeedsPairing,
    ReportSecret,
    SecretAccepted,
)

if TYPE_CHECKING:
    from services.gateway.handshake.outcome import AuthConfig, RequestInfo
    from shared.protocol.connect import ConnectFrame

_QUESTIONS: Final = (AuthorizeDevice, ReportSecret)


class State(Enum):
    """The state of a handshake; it only advances."""

    CHALLENGED = auto()
    ASKING = auto()
    DONE = auto()


def new_nonce() -> str:
    """Return a random UUID (RFC 9562, version 4), the nonce format that OpenClaw clients expect."""
    drawn = os.urandom(16).hex()
    variant = "89ab"[int(drawn[16], 16) & 3]
    return f"{drawn[:8]}-{drawn[8:12]}-4{drawn[13:16]}-{variant}{drawn[17:20]}-{drawn[20:]}"


_CHALLENGED, _ASKING, _DONE = State


class Handshake:
    """One connection's handshake."""

    __slots__ = (
        "_evaluation",
        "_peer",
        "_question",
        "_rules",
        "client",
        "connection_id",
        "device_id",
        "frame_id",
        "nonce",
        "protocol",
        "state",
    )

    def __init__(
        self, connection_id: str, nonce: str, peer: RequestInfo, rules: AuthConfig
    ) -> None:
        self.connection_id = connection_id
        self.frame_id = ""
        """The id of the client's request, for the response; empty if it had none."""
        self.nonce = nonce
        self.state = _CHALLENGED
        self.protocol = PROTOCOLS[0]
        self.client: ClientInfo | None = None
        """The client as it describes itself; None until a valid `connect` has arrived."""
        self.device_id = ""
        """The device id that the client claims, or ""."""
        self._peer = peer
        self._rules = rules
        self._question: AuthorizeDevice | None = None
        self._evaluation: Evaluation | None = None

    @property
    def question(self) -> AuthorizeDevice | None:
        """The question sent to approval, if any."""
        return self._question

    @property
    def proven(self) -> bool:
        """Whether the client has proved that it holds the key of the device it claims to be."""
        return self._question is not None or (
            self._evaluation is not None and self._evaluation.proven
        )

    def on_frame(self, text: bytes, *, now_ms: int) -> Effect:
        """Evaluate the first frame; return the next step.

        `now_ms` is wall-clock time; the age of the signature is checked against it.
        """
        frame = decode_connect(text)
        if frame is None:
            self.frame_id, found = _diagnose(text)
            if isinstance(found, Refusal):
                return self._refuse(found)
            frame = found
        self.frame_id = frame.id
        self._evaluation = evaluation = Evaluation(
            frame, self._peer, self._rules, self.connection_id
        )
        effect = evaluation.evaluate(self.nonce, now_ms)
        self.client = evaluation.client
        self.device_id = evaluation.device_id
        self.protocol = evaluation.protocol
        if isinstance(effect, Refusal):
            return self._refuse(effect)
        if isinstance(effect, _QUESTIONS):
            self.state = _ASKING
            self._question = effect if isinstance(effect, AuthorizeDevice) else None
        else:
            self.state = _DONE
        return effect

    def read_id(self, text: bytes) -> None:
        """Read only the id of the first frame, for a response without an evaluation."""
        frame = decode_connect(text)
        if frame is not None:
            self.frame_id = frame.id

    def on_answer(self, answer: Answer) -> Accepted | Refusal:
        """Turn approval's answer into the outcome of the handshake."""
        evaluation, question = self._evaluation, self._question
        if isinstance(answer, Admitted) and question is not None:
            return self._admit(answer, question)
        if isinstance(answer, LockedOut):
            return self._refuse(refusals.rate_limited(answer.retry_after_ms))
        if (
            isinstance(answer, SecretAccepted)
            and evaluation is not None
            and evaluation.if_accepted is not None
        ):
            return self._finish(evaluation.if_accepted)
        if question is None or evaluation is None:
            message = "the answer does not match the question"
            raise RuntimeError(message)
        if isinstance(answer, NeedsPairing):
            needed = PairingNeeded(
                reason=answer.reason,
                request_id=answer.request_id,
                device_id=question.device_id,
                role=question.role,
                scopes=question.scopes,
                approved_roles=answer.approved_roles,
                approved_scopes=answer.approved_scopes,
                waits_itself=_waits_itself(answer, question),
                approval_url=self._rules.approval_url,
            )
            return self._refuse(refusals.pairing_required(needed, self.protocol))
        if isinstance(answer, Denied):
            return self._refuse(self._refusal_for(answer, question, evaluation))
        return self.on_unavailable("pending-limit", "approval", retry_after_ms=10_000)

    def _admit(self, answer: Admitted, question: AuthorizeDevice) -> Accepted:
        self.state = _DONE
        token = answer.device_token
        if self._rules.names_device_in_tokens:
            token = with_device_id(token, question.device_id)
        grant = Grant(
            method=answer.method or question.method,
            role=question.role,
            scopes=question.scopes,
            device_token=token,
            token_scopes=answer.token_scopes,
            issued_at_ms=answer.issued_at_ms,
            more_tokens=self._more_tokens(answer, question) if answer.more_tokens else (),
        )
        return Accepted(
            self.frame_id, self.protocol, grant, question.device_id, question.client, answer
        )

    def session(self, accepted: Accepted) -> Session:
        """Return the session of the client, which is admitted with this outcome."""
        grant, answer = accepted.grant, accepted.answer
        return Session(
            connection_id=self.connection_id,
            protocol=accepted.protocol,
            role=grant.role,
            scopes=grant.scopes,
            device_id=accepted.device_id,
            method=grant.method,
            address=self._peer.address,
            token_generation=answer.token_generation if answer else "",
        )

    def on_unavailable(self, reason: str, dependency: str, *, retry_after_ms: int) -> Refusal:
        """Refuse the client with a retryable error because a dependency did not answer."""
        return self._refuse(refusals.unavailable(reason, dependency, retry_after_ms))

    def _finish(self, outcome: Accepted | Refusal) -> Accepted | Refusal:
        if isinstance(outcome, Refusal):
            return self._refuse(outcome)
        self.state = _DONE
        return outcome

    def _refuse(self, refusal: Refusal) -> Refusal:
        self.state = _DONE
        return refusal.with_detail("connectionId", self.connection_id)

    def _more_tokens(self, answer: Admitted, question: AuthorizeDevice) -> list[MoreToken]:
        """Return the tokens of further roles, in the form in which the device will send them."""
        named = self._rules.names_device_in_tokens
        return [
            MoreToken(
                with_device_id(one.device_token, question.device_id) if named else one.device_token,
                one.role,
                one.scopes,
                one.issued_at_ms,
            )
            for one in answer.more_tokens
        ]

    def _refusal_for(
        self, answer: Denied, question: AuthorizeDevice, evaluation: Evaluation
    ) -> Refusal:
        if answer.why == "scope-mismatch":
            return refusals.SCOPE_MISMATCH
        if answer.why == "key-mismatch":
            return refusals.DEVICE_ID_MISMATCH
        if question.setup_digest and not question.candidate_field:
            return refusals.bootstrap_token_invalid(self.protocol)
        if question.candidate_field == "deviceToken":
            return refusals.DEVICE_TOKEN_MISMATCH
        return evaluation.token_mismatch(with_device=True)


def _waits_itself(answer: NeedsPairing, question: AuthorizeDevice) -> bool:
    """Return whether the client is to retry by itself until a person has approved it."""
    if question.client.id == "openclaw-control-ui":
        return question.role == "operator"
    first = answer.reason == "not-paired" and answer.approved_roles is None
    return answer.by_setup_code and first and question.role == "node" and not question.scopes


def _diagnose(text: bytes) -> tuple[str, Refusal | ConnectFrame]:
    """Return the frame id and the refusal for a first frame that the fast decoder rejected.

    Clients depend on the order of the checks. If the frame passes them all, it is returned as a
    `connect`.
    """
    try:
        value = schema.parse(text)
    except ValueError:
        return "", refusals.NOT_JSON
    params = value.get("params", {}) if isinstance(value, dict) else {}
    claimed = params if isinstance(params, dict) else {}
    client = claimed.get("client")
    client = client if isinstance(client, dict) else {}
    version = common_version(claimed.get("minProtocol"), claimed.get("maxProtocol"))
    if is_worker(client.get("id"), client.get("mode"), claimed.get("role"), version):
        return "", refusals.WORKER
    if schema.request_problem(value) is not None:
        return "", refusals.INVALID_FRAME
    frame_id = value["id"]
    if value["method"] != "connect":
        return frame_id, refusals.NOT_CONNECT
    problems = schema.params_problems(params, schema.CONNECT_PARAMS)
    if problems:
        return frame_id, refusals.invalid_params(problems, version or PROTOCOLS[0])
    return frame_id, connect_from(value)
