"""The error that each class of callers receives, in both protocols."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from services.approval.domain.errors import (
    InvalidLabel,
    InvalidScope,
    MissingScope,
    NotAllowed,
    RegistryError,
    RequestOver,
    UnknownDevice,
    UnknownRequest,
    UnknownRole,
)
from services.approval.requests.errors import failed
from shared.protocol.methods import METHODS
from shared.rpc.messages import Error
from tests.support.approval.callers import device_token, shared_secret
from tests.support.approval.devices import Device

if TYPE_CHECKING:
    from services.approval.domain.authorization import Caller

APPROVE, REJECT = "device.pair.approve", "device.pair.reject"
REMOVE, RENAME = "device.pair.remove", "device.pair.rename"
ROTATE, REVOKE = "device.token.rotate", "device.token.revoke"
OWN = Device.new()
CONFINED = device_token(OWN)
SHARED = shared_secret()
ADMIN = shared_secret("operator.admin")
DEVICE_ADMIN = device_token(OWN, "operator.admin")
PAIRING, READ = "operator.pairing", "operator.read"

both_protocols = pytest.mark.parametrize("protocol", [4, 3])


def error_text(method: str, error: RegistryError, caller: Caller = ADMIN, protocol: int = 4) -> str:
    """Return the message of an error without details."""
    received = failed(method, error, caller, protocol)
    assert (received.code, received.details) == ("INVALID_REQUEST", None)
    return received.message


@both_protocols
class TestDenied:
    @pytest.mark.parametrize(
        ("method", "message"),
        [
            (APPROVE, "device pairing approval denied"),
            (REJECT, "device pairing rejection denied"),
            (REMOVE, "device pairing removal denied"),
            (RENAME, "device pairing rename denied"),
            (ROTATE, "device token rotation denied"),
            (REVOKE, "device token revocation denied"),
        ],
    )
    def test_each_in_its_own_word(self, method: str, message: str, protocol: int) -> None:
        assert error_text(method, NotAllowed(), CONFINED, protocol) == message

    @pytest.mark.parametrize(
        "error", [MissingScope("operator.write"), InvalidScope("operator.admin"), NotAllowed()]
    )
    @pytest.mark.parametrize(("method", "word"), [(ROTATE, "rotation"), (REVOKE, "revocation")])
    def test_every_refused_token_call_has_the_same_text(
        self, method: str, word: str, error: RegistryError, protocol: int
    ) -> None:
        assert error_text(method, error, ADMIN, protocol) == f"device token {word} denied"


@both_protocols
class TestRequests:
    @pytest.mark.parametrize("error", [UnknownRequest(), RequestOver("approved")])
    def test_an_authorized_caller_learns_that_there_is_none(
        self, error: RegistryError, protocol: int
    ) -> None:
        for caller in (ADMIN, DEVICE_ADMIN):
            for method in (APPROVE, REJECT):
                assert error_text(method, error, caller, protocol) == "unknown requestId"
        assert error_text(REJECT, error, SHARED, protocol) == "unknown requestId"
        assert error_text(REJECT, error, CONFINED, protocol) == "device pairing rejection denied"
        for caller in (SHARED, CONFINED):
            assert error_text(APPROVE, error, caller, protocol) == "device pairing approval denied"

    def test_a_request_that_cannot_be_approved_has_a_reason(self, protocol: int) -> None:
        error: RegistryError = InvalidScope("node.run")
        message = "invalid scope for requested roles: node.run"
        assert error_text(APPROVE, error, SHARED, protocol) == message
        error = MissingScope("operator.write")
        assert error_text(APPROVE, error, CONFINED, protocol) == "missing scope: operator.write"


@both_protocols
class TestDevices:
    @pytest.mark.parametrize("method", [REMOVE, RENAME])
    def test_an_unknown_device_is_named_by_its_parameter(self, method: str, protocol: int) -> None:
        assert error_text(method, UnknownDevice(), ADMIN, protocol) == "unknown deviceId"

    def test_an_unknown_node_is_named_by_its_parameter(self, protocol: int) -> None:
        assert error_text("node.describe", UnknownDevice(), ADMIN, protocol) == "unknown nodeId"

    def test_an_invalid_label_is_reported_as_required(self, protocol: int) -> None:
        assert error_text(RENAME, InvalidLabel(), CONFINED, protocol) == "label required"


class TestUnknownToken:
    @pytest.mark.parametrize("error", [UnknownDevice(), UnknownRole()])
    @pytest.mark.parametrize(("method", "word"), [(ROTATE, "rotation"), (REVOKE, "revocation")])
    def test_an_unknown_token_is_denied_in_protocol_4_and_named_in_3(
        self, method: str, word: str, error: RegistryError
    ) -> None:
        assert error_text(method, error) == f"device token {word} denied"
        assert error_text(method, error, protocol=3) == "unknown deviceId/role"


class TestMissingScope:
    """The method's own scope, which the caller's record no longer contains."""

    @pytest.mark.parametrize("method", [name for name, item in METHODS.items() if item.scope])
    def test_a_missing_scope_is_forbidden(self, method: str) -> None:
        scope = METHODS[method].scope
        assert scope in {PAIRING, READ, "operator.admin"}
        assert failed(method, MissingScope(scope), CONFINED, 4) == Error(
            "FORBIDDEN",
            f"missing scope: {scope}",
            {"code": "MISSING_SCOPE", "missingScope": scope, "requiredScopes": [scope]},
        )
        received = failed(method, MissingScope(scope), CONFINED, 3)
        assert received == Error("INVALID_REQUEST", f"missing scope: {scope}")
