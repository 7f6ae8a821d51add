"""Client descriptions; the predefined ones match the real clients."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A client's identity, requested access and signature form.

    `signature_version` is the payload that is signed: 2 by the browser dashboard, 3 by all others.
    None omits a field from the frame.
    """

    client_id: str
    mode: str
    version: str
    platform: str = "linux"
    device_family: str | None = "Linux"
    display_name: str | None = None
    role: str | None = "operator"
    scopes: tuple[str, ...] | None = ()
    min_protocol: int = 4
    max_protocol: int = 4
    signature_version: Literal[2, 3] = 3
    caps: tuple[str, ...] | None = ()
    commands: tuple[str, ...] | None = None
    user_agent: str | None = None
    locale: str | None = None

    def with_role(self, role: str, *scopes: str) -> Profile:
        """Return the same client in another role."""
        return replace(self, role=role, scopes=scopes)

    def with_scopes(self, *scopes: str) -> Profile:
        """Return the same client with other scopes, in this order."""
        return replace(self, scopes=scopes)


_VERSION_4: Final = "2026.9.6"
_VERSION_3: Final = "2026.3.28"
_USER_AGENT: Final = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/156.0.0.0 Safari/537.36"
)

CLI: Final = Profile(client_id="cli", mode="cli", version=_VERSION_4, scopes=("operator.read",))
"""The command line of protocol 4, which requests only what its command needs."""

CLI_3: Final = replace(
    CLI,
    version=_VERSION_3,
    device_family=None,
    scopes=(
        "operator.admin",
        "operator.read",
        "operator.write",
        "operator.approvals",
        "operator.pairing",
    ),
    min_protocol=3,
    max_protocol=3,
)
"""The command line of protocol 3, which requests all scopes."""

CONTROL_UI: Final = Profile(
    client_id="openclaw-control-ui",
    mode="webchat",
    version=_VERSION_4,
    platform="Linux x86_64",
    device_family=None,
    scopes=(
        "operator.admin",
        "operator.read",
        "operator.write",
        "operator.approvals",
        "operator.questions",
        "operator.pairing",
    ),
    signature_version=2,
    caps=(
        "agent-kind",
        "approvals",
        "task-suggestions",
        "terminal-offset-seq",
        "terminal-session-metadata",
        "terminal-upload-path-style",
        "tool-events",
        "inline-widgets",
        "model-selection-policy",
        "ui-commands",
        "usage-refreshing",
    ),
    user_agent=_USER_AGENT,
    locale="en-US",
)
"""The browser dashboard of protocol 4."""

CONTROL_UI_3: Final = replace(
    CONTROL_UI,
    version=_VERSION_3,
    scopes=(
        "operator.admin",
        "operator.read",
        "operator.write",
        "operator.approvals",
        "operator.pairing",
    ),
    caps=("tool-events",),
    min_protocol=3,
    max_protocol=3,
)
"""The browser dashboard of protocol 3."""

NODE_HOST: Final = Profile(
    client_id="node-host",
    mode="node",
    version=_VERSION_4,
    role="node",
    caps=("system",),
    commands=("system.run", "system.which"),
)
"""A headless node of protocol 4."""

NODE_HOST_3: Final = replace(NODE_HOST, version=_VERSION_3, min_protocol=3, max_protocol=3)
"""A headless node of protocol 3."""

REFERENCE: Final = Profile(
    client_id="gateway-client",
    mode="backend",
    version="2026.9.1",
    display_name="Reference client",
    scopes=("operator.read",),
)
"""A program that uses the reference client library, protocol 4."""

REFERENCE_3: Final = replace(REFERENCE, version=_VERSION_3, min_protocol=3, max_protocol=3)
"""A program that uses the reference client library, protocol 3."""

PROFILES: Final = {
    ("cli", 4): CLI,
    ("cli", 3): CLI_3,
    ("control-ui", 4): CONTROL_UI,
    ("control-ui", 3): CONTROL_UI_3,
    ("node-host", 4): NODE_HOST,
    ("node-host", 3): NODE_HOST_3,
    ("reference", 4): REFERENCE,
    ("reference", 3): REFERENCE_3,
}
"""The predefined clients by name and protocol."""

ANDROID: Final = Profile(
    client_id="openclaw-android",
    mode="node",
    version=_VERSION_4,
    platform="Android 15",
    device_family="Android",
    display_name="Pixel Test",
    role="node",
    scopes=(),
)
"""The app on Android, whose first connection is that of a node."""
