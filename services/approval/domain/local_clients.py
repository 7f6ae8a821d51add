"""What is approved without a person: wishes of trusted local operators (contract §7.1). Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from shared.rpc.messages import AuthorizeDevice

_INLINE: Final = frozenset({"not-paired", "role-upgrade", "scope-upgrade"})
_NATIVE_APPS: Final = frozenset(
    {"openclaw-macos", "openclaw-linux", "openclaw-ios", "openclaw-android"}
)


def approves(reason: str, question: AuthorizeDevice) -> bool:
    """Say whether a request for this reason needs no person.

    Only of operators on the gateway's own machine, who proved the gateway token, and only scopes
    of their role. That an app changed is taken from native apps alone.
    """
    if not question.trusted or question.role != "operator" or question.method != "token":
        return False
    if any(
        scope != scope.strip() or not scope.startswith("operator.") for scope in question.scopes
    ):
        return False
    if reason == "metadata-upgrade":
        return question.client.id in _NATIVE_APPS and question.client.mode == "ui"
    return reason in _INLINE
