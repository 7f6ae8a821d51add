"""Connection errors, apart from refusals, which are outcomes.

DeviceClientError
├── UnreachableError    no WebSocket could be opened
├── NoAnswerError       the gateway took too long
├── DisconnectedError   the socket closed while something was awaited
└── BrokenPeerError     the peer violates the gateway's protocol
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.device.handshake import Close


class DeviceClientError(Exception):
    """Base class of this package's errors."""


class UnreachableError(DeviceClientError):
    """No WebSocket could be opened; `status` is the HTTP status, if there was one."""

    def __init__(self, url: str, why: str, status: int | None = None) -> None:
        super().__init__(f"{url}: {why}")
        self.url = url
        self.why = why
        self.status = status


class NoAnswerError(DeviceClientError):
    """No answer in time; `awaited` names what was expected, `seconds` how long."""

    def __init__(self, awaited: str, seconds: float) -> None:
        super().__init__(f"no {awaited} within {seconds:g} s")
        self.awaited = awaited
        self.seconds = seconds


class DisconnectedError(DeviceClientError):
    """The socket closed first; `close` tells how."""

    def __init__(self, close: Close) -> None:
        super().__init__(f"closed: {close.code} {close.reason}".rstrip())
        self.close = close


class BrokenPeerError(DeviceClientError):
    """A frame that no gateway sends."""
