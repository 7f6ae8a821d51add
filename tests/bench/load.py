"""Load: n handshakes in flight, each signed, one process, straight on epoll (or what there is).

A Python client costs about what the server costs, so the server's CPU per admission is the figure
to read; admissions per second are the server's only where the load is not the limit.
"""

from __future__ import annotations

import selectors
import socket
import struct
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import cycle
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.device.identity import DeviceKey

REQUEST: Final = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
MASK: Final = b"\0\0\0\0"
"""A mask of zeros leaves the payload as it is: no time is spent on it here."""
CLOSE: Final = b"\x88\x82" + MASK + b"\x03\xe8"
STUCK_SECONDS: Final = 10.0


@dataclass(slots=True)
class Result:
    """What came of it: how many were admitted, or not and why, and how long each took."""

    admitted: int = 0
    others: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        """Admissions per second."""
        return self.admitted / self.seconds if self.seconds else 0.0


class _Attempt:
    __slots__ = ("began", "buffer", "device", "sent", "sock", "told")

    def __init__(self, sock: socket.socket, device: DeviceKey, began: float) -> None:
        self.sock = sock
        self.device = device
        self.began = began
        self.buffer = b""
        self.sent = 0
        """0: nothing, 1: upgrade, 2: connect."""
        self.told = False


class Load:
    """Keeps `in_flight` handshakes going against one port, from several loopback addresses."""

    def __init__(
        self, port: int, devices: Sequence[DeviceKey], token: str, *, in_flight: int, sources: int
    ) -> None:
        self._port = port
        self._devices = cycle(devices)
        self._token = token
        self._in_flight = in_flight
        self._sources = cycle([f"127.0.0.{1 + n}" for n in range(sources)])
        self._selector = selectors.DefaultSelector()
        self._open = 0
        self._result = Result()

    def run(self, seconds: float) -> Result:
        """Run for so long; what is under way at the end is not counted."""
        self._result = Result()
        began = time.monotonic()
        until = began + seconds
        while (now := time.monotonic()) < until:
            while self._open < self._in_flight:
                self._start(now)
            for key, events in self._selector.select(until - now):
                self._step(key.data, events)
        self._result.seconds = time.monotonic() - began
        for key in list(self._selector.get_map().values()):
            self._end(key.data)
        return self._result

    def _start(self, now: float) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        sock.bind((next(self._sources), 0))
        sock.connect_ex(("127.0.0.1", self._port))
        attempt = _Attempt(sock, next(self._devices), now)
        self._selector.register(sock, selectors.EVENT_WRITE, attempt)
        self._open += 1

    def _step(self, attempt: _Attempt, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE:
                attempt.sock.send(REQUEST)
                attempt.sent = 1
                self._selector.modify(attempt.sock, selectors.EVENT_READ, attempt)
                return
            data = attempt.sock.recv(65_536)
        except OSError as error:
            self._tell(attempt, type(error).__name__)
            self._end(attempt)
            return
        attempt.buffer += data
        if not data:
            self._tell(attempt, "cut off")
            self._end(attempt)
        elif attempt.sent == 1:
            self._answer_challenge(attempt)
        else:
            self._read_verdict(attempt)

    def _answer_challenge(self, attempt: _Attempt) -> None:
        at = attempt.buffer.find(b'"nonce":"')
        if at < 0 or not attempt.buffer.endswith(b"}}"):
            if not attempt.buffer.startswith(b"HTTP/1.1 101"):
                self._tell(attempt, attempt.buffer[9:12].decode())
                self._end(attempt)
            return
        nonce = attempt.buffer[at + 9 : at + 45].decode()
        attempt.buffer = b""
        attempt.sent = 2
        attempt.sock.send(_masked(connect_frame(attempt.device, self._token, nonce)))

    def _read_verdict(self, attempt: _Attempt) -> None:
        if attempt.buffer.startswith(b"\x88"):
            self._end(attempt)
        elif b'"ok":true' in attempt.buffer[:80]:
            self._tell(attempt, "")
            attempt.buffer = b""
            attempt.sock.send(CLOSE)
        elif b'"ok":false' in attempt.buffer[:80] and not attempt.told:
            at = attempt.buffer.find(b'"code":"') + 8
            self._tell(attempt, attempt.buffer[at : at + 24].split(b'"')[0].decode())

    def _tell(self, attempt: _Attempt, problem: str) -> None:
        if attempt.told:
            return
        attempt.told = True
        if problem:
            self._result.others[problem] += 1
        else:
            self._result.admitted += 1
            self._result.latencies.append(time.monotonic() - attempt.began)

    def _end(self, attempt: _Attempt) -> None:
        self._selector.unregister(attempt.sock)
        attempt.sock.close()
        self._open -= 1


def connect_frame(device: DeviceKey, token: str, nonce: str) -> bytes:
    """Return the `connect` of a node host, signed for this nonce."""
    signed_at = time.time_ns() // 1_000_000
    payload = f"v3|{device.device_id}|node-host|node|node||{signed_at}|{token}|{nonce}|linux|"
    signature = device.sign(payload)
    return (
        '{"type":"req","id":"1","method":"connect","params":{"minProtocol":4,"maxProtocol":4,'
        '"client":{"id":"node-host","version":"1","platform":"linux","mode":"node"},'
        '"role":"node","scopes":[],"caps":[],"commands":[],"permissions":{},'
        f'"auth":{{"token":"{token}"}},"locale":"en-US","userAgent":"bench",'
        f'"device":{{"id":"{device.device_id}","publicKey":"{device.public_key}",'
        f'"signature":"{signature}","signedAt":{signed_at},"nonce":"{nonce}"}}}}}}'
    ).encode()


def _masked(payload: bytes) -> bytes:
    return b"\x81\xfe" + struct.pack("!H", len(payload)) + MASK + payload
