"""The token that a device had before it was imported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from msgspec.structs import replace

from services.approval.domain.records import Record
from services.approval.imports.records import (
    TOKEN_ACCEPTED_MS,
    ImportDevice,
    ImportToken,
    pairing_of,
    returns_with,
)
from tests.unit.approval.domain.policy_case import KEYS, PolicyCase

if TYPE_CHECKING:
    from services.approval.domain.records import Token

READ: Final = "operator.read"
THEIRS: Final = "the token that another system gave it"
DENIED: Final = "device-token-mismatch"


def take_over(case: PolicyCase, *tokens: ImportToken, scopes: tuple[str, ...] = (READ,)) -> None:
    """Import the case's device, as an operator and a node."""
    device = ImportDevice(
        device_id=case.device.device_id,
        public_key=case.device.public_key,
        client_id="cli",
        client_mode="cli",
        platform="linux",
        device_family="Linux",
        role="operator",
        roles=("operator", "node"),
        scopes=scopes,
        tokens=tokens,
        created_at_ms=1,
        approved_at_ms=2,
    )
    pairing = pairing_of(device, now_ms=case.now_ms, keys=KEYS, draws=case.draws)
    case.record = Record(device.device_id, device.public_key, pairing)


def theirs(**changed: object) -> ImportToken:
    token = ImportToken(role="operator", scopes=(READ,), created_at_ms=1, token=THEIRS)
    return replace(token, **changed)


def held(case: PolicyCase) -> Token:
    return case.pairing.tokens["operator"]


@pytest.fixture
def imported(case: PolicyCase) -> PolicyCase:
    take_over(case, theirs())
    return case


class TestExchange:
    def test_the_first_admission_ends_it(self, imported: PolicyCase) -> None:
        assert held(imported).imported
        admitted = imported.admit(READ, token=THEIRS)
        assert admitted.kind == "token-exchanged"
        assert (held(imported).imported, held(imported).imported_until_ms) == ("", 0)
        assert imported.deny(READ, token=THEIRS) == DENIED
        assert imported.admit(READ, token=imported.token()).changed is None

    def test_only_its_digest_is_held(self, imported: PolicyCase) -> None:
        assert THEIRS not in repr(imported.record)

    def test_a_repeated_question_gets_the_same_token(self, imported: PolicyCase) -> None:
        first = imported.admit(READ, token=THEIRS, call_id="gateway:1")
        again = imported.admit(READ, token=THEIRS, call_id="gateway:1")
        assert again.token.token_id == first.token.token_id
        assert again.changed is None
        assert imported.deny(READ, token=THEIRS, call_id="gateway:2") == DENIED

    def test_a_question_is_not_repeated_after_a_rotation(self, imported: PolicyCase) -> None:
        imported.admit(READ, token=THEIRS, call_id="gateway:1")
        imported.rotate()
        assert imported.deny(READ, token=THEIRS, call_id="gateway:1") == DENIED

    def test_the_gateway_token_ends_it_too(self, imported: PolicyCase) -> None:
        assert imported.admit(READ).kind == "token-exchanged"
        assert imported.deny(READ, token=THEIRS) == DENIED
        assert imported.admit(READ).changed is None, "an admission changes nothing from then on"

    def test_it_ends_after_its_time(self, imported: PolicyCase) -> None:
        imported.now_ms += TOKEN_ACCEPTED_MS - 1
        before = imported.record
        imported.admit(READ, token=THEIRS)
        imported.record = before
        imported.now_ms += 1
        assert imported.deny(READ, token=THEIRS) == DENIED

    def test_a_decision_ends_it(self, imported: PolicyCase) -> None:
        before = imported.record
        for change in (imported.rotate, imported.revoke):
            imported.record = before
            change()
            assert held(imported).imported == ""
            assert imported.deny(READ, token=THEIRS) == DENIED

    def test_it_belongs_to_one_role(self, case: PolicyCase) -> None:
        take_over(case, theirs(), theirs(role="node", scopes=(), token="another"))
        assert case.deny(role="node", token=THEIRS) == DENIED
        case.admit(role="node", token="another")
        case.admit(READ, token=THEIRS)

    def test_it_is_bound_to_the_device(self, imported: PolicyCase) -> None:
        stolen = held(imported).imported
        other = PolicyCase()
        take_over(other, theirs(token="another"))
        assert other.record is not None
        token = replace(held(other), imported=stolen)
        tokens = {**other.pairing.tokens, "operator": token}
        other.record = replace(other.record, pairing=replace(other.pairing, tokens=tokens))
        assert other.deny(READ, token=THEIRS) == DENIED

    def test_it_grants_no_more_than_the_token(self, imported: PolicyCase) -> None:
        assert imported.deny("operator.admin", token=THEIRS) == "scope-mismatch"
        assert held(imported).imported, "nothing was exchanged"

    def test_another_platform_has_to_be_approved(self, imported: PolicyCase) -> None:
        asked = imported.ask(READ, token=THEIRS, platform="win32")
        assert asked.reason == "metadata-upgrade"


class TestReturnsWith:
    def test_its_token_if_every_role_has_one(self, case: PolicyCase) -> None:
        take_over(case, theirs(), theirs(role="node", scopes=()))
        assert returns_with(case.pairing) == "its-token"

    def test_the_gateway_token_if_a_role_has_none(self, case: PolicyCase) -> None:
        take_over(case, theirs(), theirs(role="node", scopes=(), token=""))
        assert returns_with(case.pairing) == "gateway-token"

    def test_an_approval_if_all_are_revoked(self, case: PolicyCase) -> None:
        take_over(case, theirs(revoked_at_ms=5))
        assert returns_with(case.pairing) == "approval"
        assert held(case).token_id == ""


def test_times_are_not_later_than_now(case: PolicyCase) -> None:
    late = 2**53 - 1
    take_over(case, theirs(created_at_ms=late, rotated_at_ms=late))
    token = held(case)
    assert max(token.created_at_ms, token.rotated_at_ms) == case.now_ms
