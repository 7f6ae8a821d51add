"""Connections without sockets: what is written to each is decoded at once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, cast

from services.gateway.connections.deadlines import SWEEP_SECONDS
from services.gateway.connections.hub import Hub
from services.gateway.connections.places import PlaceLimits
from services.gateway.handshake.outcome import Session
from services.gateway.replication.presence import Presence
from shared.rpc.messages import ClientInfo
from tests.support.clock import FakeClock
from tests.support.websocket.sent_frames import CLOSE, PING, TEXT, frames

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from services.gateway.connections.connection import Connection

DEVICE_ID: Final = "d" * 64


class FakeTransport:
    """Records what is written: decoded texts, and (code, reason) of the close frame."""

    def __init__(self) -> None:
        self.texts: list[Any] = []
        self.closes: list[tuple[int, str]] = []
        self.unread_bytes = 0
        self.closing = False
        self.aborts = 0
        self.paused = False
        """Whether reading is paused."""

    def write(self, data: bytes) -> None:
        """Record frames."""
        for kind, payload in frames(data):
            assert not self.closes, f"after the close: {data!r}"
            if kind == TEXT:
                self.texts.append(json.loads(payload))
            elif kind == CLOSE:
                self.closes.append((int.from_bytes(payload[:2], "big"), payload[2:].decode()))
            else:
                assert kind == PING

    def get_write_buffer_size(self) -> int:
        """Return the number of bytes that the peer has not read."""
        return self.unread_bytes

    def is_closing(self) -> bool:
        """Whether it is closing."""
        return self.closing

    def pause_reading(self) -> None:
        """Stop reading."""
        assert not self.closing
        self.paused = True

    def resume_reading(self) -> None:
        """Resume reading."""
        assert not self.closing
        self.paused = False

    def close(self) -> None:
        """Close the transport."""
        self.closing = True
        self.paused = False

    def abort(self) -> None:
        """Abort the transport."""
        self.aborts += 1
        self.close()


class FakeSessions:
    """All connections of one gateway, with their own clock."""

    def __init__(
        self,
        *,
        limit: int = 10_000,
        per_address: int = 10_000,
        per_device: int = 10_000,
        deviceless: int = 10_000,
    ) -> None:
        self.clock = FakeClock()
        self.leased: Callable[[], bool] = lambda: True
        self.connections = Hub(
            self.clock,
            Presence(),
            leased=lambda: self.leased(),  # noqa: PLW0108 (tests replace it)
            limits=PlaceLimits(limit, per_address, per_device, deviceless),
        )

    def enter(
        self,
        *scopes: str,
        protocol: int = 4,
        role: str = "operator",
        device_id: str = DEVICE_ID,
        method: str = "token",
        address: str = "address",
        trusted_local: bool = False,
    ) -> Connection:
        """Admit a client."""
        connection = self.open(address, trusted_local=trusted_local)
        self.admit(
            connection, *scopes, protocol=protocol, role=role, device_id=device_id, method=method
        )
        return connection

    def open(self, address: str = "address", *, trusted_local: bool = False) -> Connection:
        """Open a connection that is not authenticated yet."""
        transport = cast("asyncio.Transport", FakeTransport())
        return self.connections.open(transport, address, trusted_local=trusted_local)

    def admit(
        self,
        connection: Connection,
        *scopes: str,
        protocol: int = 4,
        role: str = "operator",
        device_id: str = DEVICE_ID,
        method: str = "token",
    ) -> None:
        """Admit the client of an open connection."""
        session = Session(
            connection_id=f"boot:{connection.number}",
            protocol=protocol,
            role=role,
            scopes=scopes,
            device_id=device_id,
            method=method,
            address="203.0.113.7",
            token_generation="the span",
        )
        client = ClientInfo("cli", "cli", "1", "linux")
        self.connections.admit(connection, session, client)

    def pass_time(self, seconds: float) -> None:
        """Advance the clock, sweeping four times a second; all clients answer pings."""
        for _ in range(round(seconds / SWEEP_SECONDS)):
            self.clock.advance(SWEEP_SECONDS)
            self.connections.sweep()
            for connection in self.connections._all:
                connection.pinged = False


def transport_of(connection: Connection) -> FakeTransport:
    """Return a connection's fake transport."""
    return cast("FakeTransport", connection.transport)


def texts(connection: Connection) -> list[Any]:
    """Return the text frames sent to a connection."""
    return transport_of(connection).texts


def closes(connection: Connection) -> list[tuple[int, str]]:
    """Return a connection's close, if any."""
    return transport_of(connection).closes
