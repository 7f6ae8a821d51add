"""The kernel lets through a share of new connections, and all health checks (real sockets)."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
import time
from typing import TYPE_CHECKING, Final

import pytest

from shared.server.listener_filter import (
    COMPARED_BYTES,
    has_left,
    program,
    queue_length,
    working_filter,
)
from shared.server.sockets import open_sockets
from tools.support.waiting import POLL_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the filter is a program of the Linux kernel"
)

ALWAYS: Final = (b"GET /livez", b"HEAD /livez", b"GET /below/a/path/livez")
UPGRADE: Final = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n"
HEALTH: Final = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"
SO_GET_FILTER: Final = 26
SECONDS: Final = 20.0
LONG: Final = b"GET /" + b"x" * COMPARED_BYTES
QUIET_SECONDS: Final = 0.5
"""Longer than the first two retransmissions take."""


class Case:
    """A listening socket with a filter, and its clients."""

    def __init__(self, host: str) -> None:
        (self.listener,) = open_sockets((host,), 0)
        made = working_filter([self.listener], ALWAYS)
        assert made is not None
        self.filter = made
        self.clients: list[socket.socket] = []

    def send(self, request: bytes) -> socket.socket:
        client = socket.create_connection(self.listener.getsockname()[:2], SECONDS)
        self.clients.append(client)
        client.sendall(request)
        return client

    def accepted(self, seconds: float) -> socket.socket | None:
        """Wait for a connection; None if none comes."""
        self.listener.settimeout(seconds)
        try:
            sock, _ = self.listener.accept()
        except (TimeoutError, BlockingIOError):
            return None
        self.clients.append(sock)
        sock.settimeout(SECONDS)
        return sock

    def close(self) -> None:
        for sock in (self.listener, *self.clients):
            sock.close()


@pytest.fixture(params=["127.0.0.1", "::1"])
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    with contextlib.closing(Case(request.param)) as case:
        yield case


def retransmissions(client: socket.socket) -> int:
    """Return how often TCP has retransmitted unacknowledged data (`tcpi_retransmits`)."""
    return client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 3)[2]


def test_without_a_filter_everything_passes(case: Case) -> None:
    case.send(UPGRADE)
    assert case.accepted(SECONDS) is not None
    assert not case.filter.is_inherited


def test_held_back_connections_arrive_by_themselves_once_the_filter_is_removed(case: Case) -> None:
    case.filter.let_through(0.0)
    case.send(UPGRADE)
    assert case.accepted(QUIET_SECONDS) is None
    case.filter.remove()
    sock = case.accepted(SECONDS)
    assert sock is not None
    assert sock.recv(1000) == UPGRADE


@pytest.mark.parametrize(
    "request_bytes",
    [HEALTH, b"HEAD /livez HTTP/1.1\r\n\r\n", b"GET /below/a/path/livez HTTP/1.1\r\n\r\n"],
)
def test_health_checks_pass_at_once(case: Case, request_bytes: bytes) -> None:
    case.filter.let_through(0.0)
    case.send(UPGRADE)
    case.send(request_bytes)
    sock = case.accepted(SECONDS)
    assert sock is not None
    assert sock.recv(1000) == request_bytes


@pytest.mark.parametrize(
    "request_bytes",
    [b"GET /live HTTP/1.1\r\nHost: a\r\n\r\n", b"POST /livez HTTP/1.1\r\n\r\n", b"GET", b"\0" * 99],
)
def test_other_requests_are_held_back(case: Case, request_bytes: bytes) -> None:
    case.filter.let_through(0.0)
    case.send(request_bytes)
    assert case.accepted(QUIET_SECONDS) is None


def test_a_released_socket_has_no_filter(case: Case) -> None:
    """An accepted socket inherits a copy of the filter, which would drop later data."""
    case.filter.let_through(0.0)
    client = case.send(HEALTH)
    sock = case.accepted(SECONDS)
    assert sock is not None
    assert case.filter.is_inherited
    case.filter.release(sock)
    assert sock.recv(1000) == HEALTH
    began = time.monotonic()
    for _ in range(20):
        client.sendall(b"more")
        assert sock.recv(4) == b"more"
    sock.sendall(b"x" * 1_000_000)
    left = 1_000_000
    while left:
        left -= len(client.recv(left))
    client.close()
    assert sock.recv(1) == b""
    assert time.monotonic() - began < SECONDS


def test_a_share_passes(case: Case) -> None:
    case.filter.let_through(0.1)
    count = 300
    for _ in range(count):
        case.send(UPGRADE)
    passed = 0
    while case.accepted(0.0 if passed else SECONDS) is not None:
        passed += 1
    assert 0 < passed < count


def test_connections_made_before_are_not_affected(case: Case) -> None:
    client = case.send(b"hello")
    sock = case.accepted(SECONDS)
    assert sock is not None
    case.filter.let_through(0.0)
    assert sock.recv(5) == b"hello"
    client.sendall(b"again")
    assert sock.recv(5) == b"again"


def test_a_client_that_gave_up_is_known_to_have_left(case: Case) -> None:
    """Its kernel goes on retransmitting its data; the end of the connection follows the data."""
    case.filter.let_through(0.0)
    client = case.send(UPGRADE)
    while not retransmissions(client):
        time.sleep(POLL_SECONDS)
    client.close()
    case.filter.let_through(1.0)
    sock = case.accepted(SECONDS)
    assert sock is not None
    assert has_left(sock)


def test_a_client_that_waits_has_not_left(case: Case) -> None:
    case.filter.let_through(0.5)
    case.send(HEALTH)
    sock = case.accepted(SECONDS)
    assert sock is not None
    assert not has_left(sock)


def test_the_accept_queue_is_counted(case: Case) -> None:
    for _ in range(3):
        case.send(UPGRADE)
    assert queue_length(case.listener) == 3
    case.accepted(SECONDS)
    assert queue_length(case.listener) == 2


def test_a_filter_may_be_removed_twice(case: Case) -> None:
    case.filter.remove()
    case.filter.let_through(0.25)
    case.filter.remove()
    case.filter.remove()
    assert case.filter.share is None


class Listener(socket.socket):
    """A listening socket that can refuse a filter."""

    def __init__(self) -> None:
        super().__init__(socket.AF_INET, socket.SOCK_STREAM)
        self.options: list[int] = []
        self.refuses = False

    def setsockopt(self, level: int, option: int, value: object, *_size: object) -> None:
        self.options.append(option)
        if self.refuses and isinstance(value, bytes):
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        assert isinstance(value, int | bytes)
        super().setsockopt(level, option, value)


@pytest.fixture
def two() -> Iterator[tuple[Listener, Listener]]:
    with Listener() as one, Listener() as other:
        yield one, other


def attached(listener: socket.socket) -> bool:
    """Return whether a socket has a filter (the size is in instructions)."""
    try:
        return bool(listener.getsockopt(socket.SOL_SOCKET, SO_GET_FILTER, 1))
    except OSError:
        return True  # it has more instructions than that


def test_filters_are_not_tried_on_a_listening_socket(
    two: tuple[Listener, Listener],
) -> None:
    """A connection that arrives during the trial would keep a copy forever."""
    assert working_filter(two, ALWAYS) is not None
    assert not two[0].options
    assert not two[1].options


def test_a_system_that_ignores_the_option_has_no_filters(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ignores(socket.socket):
        def setsockopt(self, *_arguments: object) -> None: ...

    with socket.socket() as listener:
        monkeypatch.setattr(socket, "socket", Ignores)
        assert working_filter([listener], ALWAYS) is None


def test_a_filter_that_the_kernel_refuses_lets_everything_through(
    two: tuple[Listener, Listener],
) -> None:
    """Even if another listening socket has the filter, and its connections a copy."""
    made = working_filter(two, ALWAYS)
    assert made is not None
    two[1].refuses = True
    made.let_through(0.5)
    assert (made.works, made.share, made.is_inherited) == (False, None, True)
    assert [attached(listener) for listener in two] == [False, False]
    two[1].refuses = False
    made.let_through(0.5)
    assert (made.works, made.share) == (True, 0.5)
    assert [attached(listener) for listener in two] == [True, True]
    two[1].refuses = True
    made.let_through(0.25)
    assert [attached(listener) for listener in two] == [False, False]


def test_a_filter_is_replaced_without_memory_for_two(case: Case) -> None:
    """Linux has 20 KiB for all options of a socket before version 6.8, and 128 KiB from then on."""
    count = 64
    while (largest := working_filter([case.listener], [LONG] * count)) is None:
        count -= 1
    largest.let_through(0.5)
    largest.let_through(0.25)
    assert largest.works


def test_long_paths_make_a_program_that_is_short_enough() -> None:
    longest = program(0.5, [b"GET /" + b"x" * 5000] * 16)
    assert len(longest) % 8 == 0
    assert len(longest) / 8 < 16 * (COMPARED_BYTES / 2 + 2) + 20 < 4096
