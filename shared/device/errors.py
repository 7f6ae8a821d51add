"""What can go wrong with a connection, apart from being refused (which is an outcome).

DeviceClientError
├── UnreachableError    no WebSocket came about
├── NoAnswerError       the gateway took longer than we wait
├── DisconnectedError   the socket closed while something was awaited
└── BrokenPeerError     what came was not the gateway's protocol
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.device.handshake import Close


class DeviceClientError(Exception):
    """The root of what this package raises."""


class UnreachableError(DeviceClientError):
    """No WebSocket came about; `status` where HTTP answered something else."""

    def __init__(self, url: str, why: str, status: int | None = None) -> None:
        super().__init__(f"{url}: {why}")
        self.url = url
        self.why = why
        self.status = status


class NoAnswerError(DeviceClientError):
    """Nothing came in time; `awaited` names it, `seconds` is how long we waited."""

    def __init__(self, awaited: str, seconds: float) -> None:
        super().__init__(f"no {awaited} within {seconds:g} s")
        self.awaited = awaited
        self.seconds = seconds


class DisconnectedError(DeviceClientError):
    """The socket closed first; `close` says how."""

    def __init__(self, close: Close) -> None:
        super().__init__(f"closed: {close.code} {close.reason}".rstrip())
        self.close = close


class BrokenPeerError(DeviceClientError):
    """A frame that no gateway sends."""
