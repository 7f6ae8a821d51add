"""Automatic approval of requests from trusted local operators. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from shared.rpc.messages import AuthorizeDevice

_INLINE: Final = frozenset({"not-paired", "role-upgrade", "scope-upgrade"})
_NATIVE_APPS: Final = frozenset(
    {"openclaw-macos", "openclaw-linux", "openclaw-ios", "openclaw-android"}
)


def approves(reason: str, question: AuthorizeDevice) -> bool:
    """Return whether a request for this reason is approved without a person.

    Requires an operator on the gateway's own machine who proved the gateway token and asks only
    for operator scopes. Changed metadata is accepted from native apps only.
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
