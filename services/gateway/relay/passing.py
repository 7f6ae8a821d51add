"""Passes the frames of a joined client on, in both directions, as they came.

Each passer gets all whole text frames of one read at once: the lease is checked, the frames are
counted and written once for all of them. Frames that have to be read go to the RelayHandler, which
hands those for the other side to `pass_text`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.gateway.relay.rules.marks import may_name_ours
from services.gateway.relay.rules.rewriting import down_event, is_pair_event
from services.gateway.websocket.frames import text_frame_parts
from shared.protocol.limits import BUFFERED_LIMIT_BYTES

if TYPE_CHECKING:
    from services.gateway.connections.connection import Connection
    from services.gateway.connections.hub import Hub
    from services.gateway.relay.counts import RelayCounts
    from services.gateway.relay.upstream.socket import UpstreamSocket


class _FramePasser:
    __slots__ = ("_connection", "_counts", "_hub", "_upstream")

    def __init__(
        self, connection: Connection, hub: Hub, upstream: UpstreamSocket, counts: RelayCounts
    ) -> None:
        self._connection = connection
        self._hub = hub
        self._upstream = upstream
        self._counts = counts


class UpwardPasser(_FramePasser):
    """Passes frames of the client on to the upstream, with the client's mask."""

    __slots__ = ()

    is_to_be_read = staticmethod(may_name_ours)

    def on_frames(self, frames: bytes | bytearray, count: int, payload_bytes: int) -> None:
        """Pass on frames while the client is served."""
        connection = self._connection
        connection.pinged = False
        if connection.transport.get_write_buffer_size() > BUFFERED_LIMIT_BYTES:
            self._hub.close_if_slow(connection)
        if self._hub.serves(connection):
            counts = self._counts
            counts.frames_up += count
            counts.bytes_up += payload_bytes
            self._upstream.send_frames(frames)

    def pass_text(self, payload: bytes) -> None:
        """Pass on a frame that was read, while the client is served."""
        if self._hub.serves(self._connection):
            counts = self._counts
            counts.frames_up += 1
            counts.bytes_up += len(payload)
            self._upstream.send_text(payload)


class DownwardPasser(_FramePasser):
    """Passes frames of the upstream on to the client."""

    __slots__ = ()

    is_to_be_read = staticmethod(is_pair_event)

    def on_frames(self, frames: bytes | bytearray, count: int, payload_bytes: int) -> None:
        """Pass on frames while the client is served."""
        self._upstream.pinged = False
        connection = self._connection
        if self._hub.serves(connection):
            counts = self._counts
            counts.frames_down += count
            counts.bytes_down += payload_bytes
            connection.transport.write(frames)

    def pass_text(self, payload: bytes) -> None:
        """Pass on a frame that was read, while the client is served; rewrite it if necessary."""
        connection = self._connection
        if self._hub.serves(connection):
            counts = self._counts
            counts.frames_down += 1
            counts.bytes_down += len(payload)
            rewritten = down_event(payload)
            if rewritten is not None:
                connection.send(rewritten)
            else:
                connection.transport.writelines(text_frame_parts(payload))
