"""Evaluation of a `connect`: version, role, origin, device proof and credentials. Pure."""

from __future__ import annotations

from itertools import filterfalse
from typing import TYPE_CHECKING, Final, overload

from services.gateway.handshake.origin import origin_problem
from services.gateway.handshake.outcome import Accepted, Effect
from shared.device_tokens import without_device_id
from shared.protocol import refusals
from shared.protocol.connect import BROWSER_CLIENT_IDS, CONTROL_UI_CLIENT_IDS, Auth
from shared.protocol.hello import Grant
from shared.protocol.limits import DISPLAY_NAME_LIMIT_CHARACTERS, PROTOCOLS
from shared.protocol.refusals import Refusal
from shared.protocol.signing import verify_device
from shared.rpc.messages import (
    SHARED_SECRET,
    AuthorizeDevice,
    ClientInfo,
    Guess,
    ReportSecret,
)
from shared.setup_tokens import digest_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.gateway.handshake.outcome import AuthConfig, RequestInfo
    from shared.protocol.connect import ConnectFrame

_NO_AUTH: Final = Auth()
_NUMBERS: Final = (int, float)
_ROLES: Final = ("operator", "node")


class Evaluation:
    """The evaluation of one valid `connect`.

    `client` is the client as it describes itself, with its name cut to the limit. `device_id` is
    the device id that it claims, or "".
    `protocol` is the version to use, the newest until `evaluate` has found a common one.
    `if_accepted` is the outcome to apply once approval answers a ReportSecret with SecretAccepted.
    `proven` says whether the device's signature is valid.
    """

    __slots__ = (
        "_call_id",
        "_frame_id",
        "_params",
        "_peer",
        "_role",
        "_rules",
        "_trusted",
        "client",
        "device_id",
        "if_accepted",
        "protocol",
        "proven",
    )

    def __init__(
        self, frame: ConnectFrame, peer: RequestInfo, rules: AuthConfig, call_id: str
    ) -> None:
        params = frame.params
        self._frame_id = frame.id
        self._params = params
        self._peer = peer
        self._rules = rules
        self._call_id = call_id
        self._role = params.role or "operator"
        self._trusted = rules.trusts_local and peer.direct_loopback and peer.origin is None
        client = params.client
        self.client = ClientInfo(
            id=client.id,
            mode=client.mode,
            version=client.version,
            platform=client.platform,
            device_family=client.device_family or "",
            display_name=(client.display_name or "")[:DISPLAY_NAME_LIMIT_CHARACTERS],
        )
        self.device_id = params.device.id if params.device else ""
        self.protocol = PROTOCOLS[0]
        self.if_accepted: Accepted | Refusal | None = None
        self.proven = False

    def evaluate(self, nonce: str, now_ms: int) -> Effect:
        """Check version, role and origin, then the device's proof and the credentials.

        Clients depend on this order. `now_ms` is wall-clock time; the age of the signature is
        checked against it.
        """
        params, client, role, peer = self._params, self.client, self._role, self._peer
        version = common_version(params.min_protocol, params.max_protocol)
        if is_worker(client.id, client.mode, role, version):
            return refusals.WORKER
        if version is None:
            return refusals.protocol_mismatch(params.min_protocol, params.max_protocol)
        if (
            self._rules.operators_need_protocol_4
            and version == refusals.PROTOCOL_3
            and not _may_speak_protocol_3_upstream(client.mode, role)
        ):
            # Refused first: nobody should be asked to approve a device that could not be connected.
            details = refusals.mismatch_details(params.min_protocol, params.max_protocol)
            return refusals.upstream_protocol("INVALID_REQUEST", details, PROTOCOLS[0])
        self.protocol = version
        if role not in _ROLES:
            return refusals.INVALID_ROLE
        if peer.origin is not None or client.id in BROWSER_CLIENT_IDS:
            problem = origin_problem(
                peer.origin,
                peer.host,
                self._rules.allowed_origins,
                direct_loopback=peer.direct_loopback,
            )
            if problem is not None:
                return refusals.origin_not_allowed(problem)
        return self._authenticate(nonce, now_ms)

    def _authenticate(self, nonce: str, now_ms: int) -> Effect:
        """Verify the device's proof, then evaluate the credentials."""
        params, role = self._params, self._role
        auth, device = params.auth or _NO_AUTH, params.device
        scopes = params.scopes or []
        public_key = ""
        if device:
            proof = verify_device(
                params, device, role=role, scopes=scopes, nonce=nonce, now_ms=now_ms
            )
            if isinstance(proof, Refusal):
                return proof
            public_key, self.proven = proof, True
        # The distinct gateway tokens. Protocol 3 has one field for them; two are two guesses.
        offered = [auth.token] if auth.token else []
        if auth.password and auth.password != auth.token and self.protocol != refusals.PROTOCOL_3:
            offered.append(auth.password)
        wrong = list(filterfalse(self._rules.gateway_tokens.accepts, offered))
        secret_is_right = len(wrong) < len(offered)
        if not device:
            return self._without_device(wrong, secret_is_right=secret_is_right)
        if self._trusted and secret_is_right and self._is_own_backend():
            return self._without_pairing(scopes, wrong)
        candidate = field = ""
        if auth.device_token:
            candidate, field = auth.device_token, "deviceToken"
        elif auth.token and not secret_is_right:
            candidate, field = auth.token, "token"
        setup_token = (auth.bootstrap_token or "").strip()
        if setup_token and field == "token":
            candidate = field = ""
        if not (secret_is_right or candidate or setup_token):
            return self._without_candidate(wrong)
        maybe_right = "" if secret_is_right else candidate
        digest = self._rules.digests.of
        guesses = [digest(token) for token in wrong if token != maybe_right] if wrong else []
        return AuthorizeDevice(
            call_id=self._call_id,
            device_id=device.id,
            public_key=public_key,
            role=role,
            scopes=scopes,
            client=self.client,
            method="token" if secret_is_right else "device-token",
            address=self._peer.address,
            protocol=self.protocol,
            token_candidate=candidate and without_device_id(candidate, device.id),
            candidate_field=field,
            gateway_token_failed=bool(offered) and not secret_is_right,
            wrong_gateway_token=bool(guesses) and not secret_is_right,
            trusted=self._trusted,
            guesses=guesses,
            candidate_offered=maybe_right in wrong,
            setup_digest=digest_of(setup_token) if setup_token else "",
        )

    def _without_candidate(self, wrong: list[str]) -> ReportSecret | Refusal:
        """Refuse a client that sent no credential that approval could accept."""
        if not wrong:
            return refusals.token_missing(self._hint(missing=True))
        refusal = self.token_mismatch(with_device=False)
        guesses = self._gateway_token_guesses(wrong)
        return self._report([SHARED_SECRET], refusal, guesses, right=False)

    def _gateway_token_guesses(self, wrong: list[str]) -> list[Guess]:
        return [Guess(SHARED_SECRET, self._rules.digests.of(token)) for token in wrong]

    def _without_device(
        self, wrong: list[str], *, secret_is_right: bool
    ) -> ReportSecret | Accepted | Refusal:
        """Evaluate a client without a device proof; it keeps its scopes only if it is trusted."""
        params = self._params
        if params.client.id in CONTROL_UI_CLIENT_IDS:
            return refusals.CONTROL_UI_DEVICE_REQUIRED
        guesses = self._gateway_token_guesses(wrong)
        if wrong and not secret_is_right:
            mismatch = self.token_mismatch(with_device=False)
            return self._report([SHARED_SECRET], mismatch, guesses, right=False)
        if not secret_is_right:
            return refusals.DEVICE_REQUIRED
        if self._role != "operator":
            return self._report([SHARED_SECRET], refusals.DEVICE_REQUIRED, guesses, right=True)
        keeps_scopes = self._is_own_backend() or (self._trusted and self._is_cli())
        return self._without_pairing(params.scopes or () if keeps_scopes else (), wrong)

    def _is_own_backend(self) -> bool:
        """Return whether this is a trusted local backend, which needs no pairing."""
        client = self._params.client
        return self._trusted and (client.id, client.mode) == ("gateway-client", "backend")

    def _is_cli(self) -> bool:
        client = self._params.client
        return (client.id, client.mode) == ("cli", "cli")

    def _without_pairing(self, scopes: Sequence[str], wrong: list[str]) -> ReportSecret | Accepted:
        """Admit a client on the gateway token alone, with these scopes and no device token."""
        grant = Grant(method="token", role=self._role, scopes=scopes)
        accepted = Accepted(self._frame_id, self.protocol, grant, "", self.client, None)
        guesses = self._gateway_token_guesses(wrong)
        return self._report([SHARED_SECRET], accepted, guesses, right=True)

    @overload
    def _report(
        self, classes: list[str], if_accepted: Accepted, guesses: list[Guess], *, right: bool
    ) -> ReportSecret | Accepted: ...

    @overload
    def _report(
        self, classes: list[str], if_accepted: Refusal, guesses: list[Guess], *, right: bool
    ) -> ReportSecret | Refusal: ...

    def _report(
        self,
        classes: list[str],
        if_accepted: Accepted | Refusal,
        guesses: list[Guess],
        *,
        right: bool,
    ) -> Effect:
        """Report the offered secret to approval before the client gets the outcome.

        `right` says whether the secret was correct, whatever the outcome. Attempts of a trusted
        client are not counted, so it is never locked out.
        """
        if self._trusted:
            return if_accepted
        self.if_accepted = if_accepted
        return ReportSecret(
            call_id=self._call_id,
            address=self._peer.address,
            classes=classes,
            right=right,
            guesses=guesses,
        )

    def token_mismatch(self, *, with_device: bool) -> Refusal:
        """Return the refusal for a wrong gateway token."""
        return refusals.token_mismatch(self._hint(missing=False), with_device=with_device)

    def _hint(self, *, missing: bool) -> str:
        return refusals.token_hint(
            self._params.client.id,
            self._params.client.mode,
            missing=missing,
            local=self._peer.direct_loopback and self.protocol != refusals.PROTOCOL_3,
        )


def is_worker(client_id: object, mode: object, role: object, version: int | None) -> bool:
    """Return whether a client claims to be a worker; protocol 3 has no such client id or mode."""
    if role == "worker":
        return version != refusals.PROTOCOL_3
    return mode == "worker" or client_id == "openclaw-worker"


def _may_speak_protocol_3_upstream(mode: str, role: str) -> bool:
    """Return whether OpenClaw accepts protocol 3 from such a client."""
    return mode == "probe" or (mode == "node" and role == "node")


def common_version(minimum: object, maximum: object) -> int | None:
    """Return the highest protocol version that both sides support, or None."""
    if not isinstance(minimum, _NUMBERS) or not isinstance(maximum, _NUMBERS):
        return None
    for version in PROTOCOLS:
        if minimum <= version <= maximum:
            return version
    return None
