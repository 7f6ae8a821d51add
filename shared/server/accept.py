"""Bulk accept: many sockets per loop iteration, so that their questions are batched.

uvloop's own servers accept one connection per iteration; then no two handshakes run in the same
iteration and nothing can be batched (docs/decisions/0002-bulk-accept.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import resource
from socket import MSG_DONTWAIT
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

ACCEPTED_PER_TURN: Final = 64
EXHAUSTED_PAUSE_SECONDS: Final = 1.0
SPARE_DESCRIPTORS: Final = 256
"""Descriptors reserved for everything except client sockets."""

_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_NOBODY_THERE: Final = (BlockingIOError, InterruptedError, ConnectionAbortedError)


def raise_descriptor_limit(wanted: int) -> int:
    """Raise the soft descriptor limit towards `wanted`; returns the limit in effect."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < target:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
        soft = target
    return wanted if soft == resource.RLIM_INFINITY else soft


class BulkAcceptor:
    """Accepts up to 64 sockets per loop iteration and passes each one to a new protocol.

    `accept` takes the peer's IP address and returns the protocol of the socket, or the response
    with which to reject it.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        accept: Callable[[str], asyncio.BaseProtocol | bytes],
        on_exhausted: Callable[[], None],
    ) -> None:
        self._listeners = list(listeners)
        self._admit = accept
        self._on_exhausted = on_exhausted
        self._loop = asyncio.get_running_loop()
        self._connecting: set[asyncio.Task[object]] = set()
        self._resume: asyncio.TimerHandle | None = None
        self._accepting = False

    def start(self) -> None:
        """Start accepting."""
        self._accepting = True
        for listener in self._listeners:
            listener.setblocking(False)
            self._loop.add_reader(listener, self._accept, listener)

    def stop(self) -> None:
        """Stop accepting and close the listening sockets."""
        self._accepting = False
        if self._resume is not None:
            self._resume.cancel()
        for listener in self._listeners:
            self._loop.remove_reader(listener)
            listener.close()

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTED_PER_TURN):
            try:
                sock, address = listener.accept()
            except _NOBODY_THERE:
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                self._pause()
                return
            protocol = self._admit(address[0])
            if isinstance(protocol, bytes):
                _turn_away(sock, protocol)
                continue
            factory = [protocol].pop
            task = self._loop.create_task(self._loop.connect_accepted_socket(factory, sock))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)
            task.add_done_callback(asyncio.Task.exception)  # the client may already be gone

    def _pause(self) -> None:
        """Stop accepting for a second when out of descriptors, to avoid a busy loop."""
        self._on_exhausted()
        for listener in self._listeners:
            self._loop.remove_reader(listener)
        if self._resume is None:
            self._resume = self._loop.call_later(EXHAUSTED_PAUSE_SECONDS, self._look_again)

    def _look_again(self) -> None:
        self._resume = None
        if self._accepting:
            self.start()


def _turn_away(sock: socket.socket, answer: bytes) -> None:
    """Respond without reading and close at once; a distant peer may see a reset instead."""
    with contextlib.suppress(OSError):
        sock.send(answer, MSG_DONTWAIT)
    sock.close()
