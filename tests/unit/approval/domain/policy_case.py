"""One device record and the policy, without a store: every operation is a plain function call."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from services.approval.domain import pairing, policy
from services.approval.domain.records import Record
from services.approval.domain.tokens import TokenKeys
from shared.settings.environment import Secrets
from tests.support.approval.devices import Device

if TYPE_CHECKING:
    from services.approval.domain.records import Pairing, Pending, Token

TTL_MS: Final = 3_600_000
KEYS: Final = TokenKeys(Secrets(["a-token-secret-for-tests-of-the-rules"]))


class PolicyCase:
    """One device under the policy. Ids are r1, r2, … and t1, t2, …; time stands still."""

    def __init__(self) -> None:
        requests, tokens, epochs = itertools.count(1), itertools.count(1), itertools.count(1)
        self.draws: Final = pairing.IdFactory(
            request_id=lambda: f"r{next(requests)}",
            token_id=lambda: f"t{next(tokens)}",
            token_generation=lambda: f"e{next(epochs)}",
        )
        self.device: Final = Device.new()
        self.record: Record | None = None
        self.now_ms = 1_700_000_000_000

    @property
    def pairing(self) -> Pairing:
        """The approved pairing."""
        assert self.record is not None
        assert self.record.pairing is not None
        return self.record.pairing

    @property
    def pending(self) -> Pending | None:
        """The pending request, whether or not it has expired."""
        return self.record.pending if self.record else None

    def judge(self, *scopes: str, **asked: Any) -> policy.Decision:
        """Evaluate a request, and store the resulting record; `asked` as for Device.asks."""
        verdict = policy.authorize(
            self.record,
            self.device.asks(scopes, **asked),
            now_ms=self.now_ms,
            ttl_ms=TTL_MS,
            keys=KEYS,
            draws=self.draws,
        )
        if not isinstance(verdict, policy.Deny) and verdict.changed is not None:
            self.record = verdict.changed
        return verdict

    def ask(self, *scopes: str, **asked: Any) -> policy.Ask:
        """Evaluate a request that needs an operator's decision."""
        verdict = self.judge(*scopes, **asked)
        assert isinstance(verdict, policy.Ask), verdict
        return verdict

    def admit(self, *scopes: str, **asked: Any) -> policy.Admit:
        """Evaluate a request that is already approved."""
        verdict = self.judge(*scopes, **asked)
        assert isinstance(verdict, policy.Admit), verdict
        return verdict

    def deny(self, *scopes: str, **asked: Any) -> str:
        """Evaluate a request that is denied; returns the reason."""
        verdict = self.judge(*scopes, **asked)
        assert isinstance(verdict, policy.Deny), verdict
        return verdict.why

    def approve(self) -> None:
        """Approve the pending request."""
        assert self.record is not None
        assert self.record.pending is not None
        after = pairing.approved(
            self.record.pairing, self.record.pending, now_ms=self.now_ms, draws=self.draws
        )
        self.record = Record(self.record.device_id, self.record.public_key, after)

    def pair(self, *scopes: str, **asked: Any) -> Token:
        """Request, approve and admit; returns the role's token."""
        self.ask(*scopes, **asked)
        self.approve()
        return self.admit(*scopes, **asked).token

    def rotate(self, role: str = "operator", scopes: list[str] | None = None) -> None:
        """Create a new token for a role."""
        assert self.record is not None
        after = pairing.rotated(self.pairing, role, scopes, now_ms=self.now_ms, draws=self.draws)
        self.record = replace(self.record, pairing=after)

    def revoke(self, role: str = "operator") -> None:
        """Revoke the token of a role."""
        assert self.record is not None
        after = pairing.revoked(self.pairing, role, now_ms=self.now_ms)
        self.record = replace(self.record, pairing=after)

    def token(self, role: str = "operator") -> str:
        """Return the device token of a role."""
        return KEYS.derive(self.device.device_id, role, self.pairing.tokens[role].token_id)
