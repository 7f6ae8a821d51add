"""Asks approval about the tokens in plain HTTP requests."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from services.gateway.relay.rules.http import (
    BARE_TOKEN_SCOPES,
    HTTP_ROLE,
    DeviceToken,
    GatewayToken,
    WrongToken,
    bearer_of,
)
from shared.bus.errors import Unavailable
from shared.rpc.messages import (
    SHARED_SECRET,
    Guess,
    LockedOut,
    ReportSecret,
    SecretAccepted,
    TokenCheck,
    TokenHolder,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from services.gateway.handshake.outcome import AuthConfig
    from shared.rpc.messages import Answer


@dataclass(frozen=True, slots=True)
class Holder:
    """The token is valid; its holder has these scopes."""

    scopes: Sequence[str]


@dataclass(frozen=True, slots=True)
class Nobody:
    """The token is missing or wrong."""


@dataclass(frozen=True, slots=True)
class BearerLockedOut:
    """Too many wrong secrets came from the address, so this one is rejected in any case."""

    retry_after_ms: int


@dataclass(frozen=True, slots=True)
class Undecided:
    """Approval did not answer, so the token is neither valid nor wrong."""


Verdict = Holder | Nobody | BearerLockedOut | Undecided


class Asks(Protocol):
    """The part of BusApprovals that is needed here."""

    def request(
        self, question: ReportSecret | TokenCheck, then: Callable[[Answer | Unavailable], object]
    ) -> None:
        """Return the answer, or Unavailable if none arrives in time."""
        ...

    def require_lease(self) -> None:
        """Raise Unavailable unless this gateway holds a lease."""
        ...


class Bearers:
    """Checks bearer tokens. Wrong ones are counted before the client gets a response."""

    def __init__(self, approvals: Asks, rules: AuthConfig, boot_id: str) -> None:
        self._approvals = approvals
        self._rules = rules
        self._boot_id = boot_id
        self._numbers = itertools.count(1)

    async def judge(self, authorization: str, address: str, *, trusted: bool) -> Verdict:
        """Check an Authorization header; `trusted` clients are neither counted nor locked out."""
        bearer = bearer_of(authorization, self._rules.gateway_tokens)
        if bearer is None:
            return Nobody()
        call_id = f"{self._boot_id}:http-{next(self._numbers)}"
        if isinstance(bearer, DeviceToken):
            question: ReportSecret | TokenCheck = TokenCheck(
                call_id, address, bearer.device_id, HTTP_ROLE, bearer.token
            )
            return self._heard(await self._asked(question), ())
        right = isinstance(bearer, GatewayToken)
        scopes = BARE_TOKEN_SCOPES if right else None
        is_no_guess = isinstance(bearer, WrongToken) and not bearer.counts
        if trusted or is_no_guess:
            return self._settled(scopes)
        guesses = [] if right else [self._guess(authorization)]
        question = ReportSecret(call_id, address, [SHARED_SECRET], right, guesses=guesses)
        return self._heard(await self._asked(question), scopes)

    def _guess(self, authorization: str) -> Guess:
        token = authorization.strip().partition(" ")[2].strip()
        return Guess(SHARED_SECRET, self._rules.digests.of(token))

    def _heard(self, answer: Answer | Unavailable, scopes: Sequence[str] | None) -> Verdict:
        if isinstance(answer, Unavailable):
            return Undecided()
        if isinstance(answer, LockedOut):
            return BearerLockedOut(answer.retry_after_ms)
        if isinstance(answer, TokenHolder):
            return Holder(answer.scopes)
        return self._settled(scopes if isinstance(answer, SecretAccepted) else None)

    def _settled(self, scopes: Sequence[str] | None) -> Verdict:
        """Return the verdict without a device; a lease is needed where a token is in order."""
        if scopes is None:
            return Nobody()
        try:
            self._approvals.require_lease()
        except Unavailable:
            return Undecided()
        return Holder(scopes)

    async def _asked(self, question: ReportSecret | TokenCheck) -> Answer | Unavailable:
        asked: asyncio.Future[Answer | Unavailable] = asyncio.get_running_loop().create_future()

        def heard(answer: Answer | Unavailable) -> None:
            if not asked.done():
                asked.set_result(answer)

        self._approvals.request(question, heard)
        return await asked
