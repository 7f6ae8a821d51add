"""The client's descriptions of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

Options = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Role:
    """A role: the client's options, and the scopes that a connect with them requests."""

    name: str
    scopes: list[str]
    _options: Mapping[str, Any]

    def options(self, *, token: str) -> Options:
        """Return the options for a connect with a gateway token."""
        return {**self._options, "role": self.name, "scopes": self.scopes, "token": token}

    def token_options(self) -> Options:
        """Return the options for a connect with only the stored device token.

        An operator's client then requests the scopes stored with the token. A node has none, and
        the client would request its default, an operator's, without an explicit list.
        """
        scopes = {} if self.scopes else {"scopes": self.scopes}
        return {**self._options, "role": self.name, **scopes}


ROLES: Final = (
    # Client id and mode are the client's defaults.
    Role(
        "operator",
        ["operator.read", "operator.pairing"],
        {"clientDisplayName": "interop operator"},
    ),
    Role(
        "node",
        [],
        {
            "clientName": "node-host",
            "mode": "node",
            "clientDisplayName": "interop node",
            "caps": ["canvas"],
            "commands": ["canvas.present"],
        },
    ),
)
