"""A filter in the kernel that lets only a share of new connections through to a listening socket.

While it is attached, the kernel drops the first data of new connections, except for a random share
of them and for requests such as health checks. The client's TCP retransmits after 0.2, 0.4, 0.8 …
seconds. Clients that have to wait thus cost this process nothing, and are not in the accept queue
before a health check. Sockets accepted earlier are not affected; those accepted now inherit a copy
of the filter, which `release` removes.

When a client gives up, its kernel goes on retransmitting, and sends the end of the connection (FIN)
as soon as the data is acknowledged. `has_left` detects this.

The filter is a classic BPF program (Linux; socket(7), `SO_ATTACH_FILTER`). It sees each packet from
the TCP header on.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
import sys
from socket import IPPROTO_TCP, SOL_SOCKET
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

COMPARED_BYTES: Final = 60
"""How much of a request is compared, at most."""
_SO_ATTACH_FILTER: Final = 26
_SO_GET_FILTER: Final = 26
_SO_DETACH_FILTER: Final = 27
_DROP: Final = 0
_PASS: Final = 0xFFFFFFFF
_RANDOM_MAX: Final = 0xFFFFFFFF

# Opcodes and offsets of linux/filter.h and linux/bpf_common.h.
_LOAD_BYTE: Final = 0x30
_LOAD_WORD: Final = 0x20
_LOAD_LENGTH: Final = 0x80
_LOAD_FROM_X: Final = {4: 0x40, 2: 0x48, 1: 0x50}
"""By number of bytes: load them at an offset from X."""
_SHIFT_RIGHT: Final = 0x74
_SHIFT_LEFT: Final = 0x64
_SUBTRACT_X: Final = 0x1C
_COPY_TO_X: Final = 0x07
_IF_EQUAL: Final = 0x15
_IF_GREATER: Final = 0x25
_IF_ANY_BIT: Final = 0x45
_RETURN: Final = 0x06
_RANDOM_WORD: Final = 0xFFFFF000 + 56

# struct tcp_info of linux/tcp.h.
_TCP_INFO: Final = 11
_TCP_INFO_BYTES: Final = 32
_TCP_INFO_QUEUE: Final = 24
"""Offset of the length of the accept queue, in that of a listening socket."""
_TCP_CLOSE_WAIT: Final = 8

# The TCP header.
_OFFSET_AND_FLAGS: Final = 12, 13
_END: Final = 0x01
_SYN_OR_RESET: Final = 0x02 | 0x04


class ListenerFilter:
    """The filter of some listening sockets. Requests that begin with one of `always` pass."""

    def __init__(self, listeners: Sequence[socket.socket], always: Sequence[bytes]) -> None:
        self._listeners = list(listeners)
        self._always = tuple(always)
        self.share: float | None = None
        """The share of other requests that passes; None: no filter is attached."""
        self.is_inherited = False
        """Whether accepted sockets may have a copy of the filter; the caller resets it."""
        self.works = True
        """Whether the kernel accepted the filter the last time."""

    def let_through(self, share: float) -> None:
        """Let this share of new connections through (0 to 1), or all if the kernel refuses."""
        if share != self.share:
            self.remove()  # the kernel's memory for options may not suffice for two filters
            try:
                self._attach(share)
            except OSError:
                self.remove()
            self.works = self.share is not None

    def remove(self) -> None:
        """Let everything through, and let sockets that are accepted from now on inherit nothing."""
        self.share = None
        for listener in self._listeners:
            with contextlib.suppress(OSError):  # none is attached
                listener.setsockopt(SOL_SOCKET, _SO_DETACH_FILTER, 0)

    def release(self, sock: socket.socket) -> None:
        """Remove the copy of the filter from an accepted socket."""
        with contextlib.suppress(OSError):
            sock.setsockopt(SOL_SOCKET, _SO_DETACH_FILTER, 0)

    def _attach(self, share: float) -> None:
        code = program(share, self._always)
        buffer = ctypes.create_string_buffer(code)
        # struct sock_fprog: the number of instructions, and a pointer to them.
        option = struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))
        self.is_inherited = True  # even if the kernel accepts it for only one of the listeners
        for listener in self._listeners:
            listener.setsockopt(SOL_SOCKET, _SO_ATTACH_FILTER, option)
        self.share = share


def working_filter(
    listeners: Sequence[socket.socket], always: Sequence[bytes]
) -> ListenerFilter | None:
    """Return a filter, or None if this system has none.

    It is tried on another socket, because connections that arrive during the trial would keep a
    copy. Some sandboxes ignore options that they do not know, so the filter is also read back.
    """
    if sys.platform != "linux":
        return None
    with socket.socket(listeners[0].family, socket.SOCK_STREAM) as sock:
        tried = ListenerFilter([sock], always)
        tried.let_through(1.0)
        return ListenerFilter(listeners, always) if tried.works and _has_filters(sock) else None


def _has_filters(sock: socket.socket) -> bool:
    """Return whether a socket has a filter after one was attached."""
    tried = ListenerFilter([sock], ())
    tried.let_through(1.0)
    try:
        # The size is in instructions, so the buffer is large enough.
        return bool(sock.getsockopt(SOL_SOCKET, _SO_GET_FILTER, len(program(1.0, ()))))
    except OSError:
        return False


def has_left(sock: socket.socket) -> bool:
    """Return whether the client of a socket has closed it."""
    return sock.getsockopt(IPPROTO_TCP, _TCP_INFO, 1)[0] == _TCP_CLOSE_WAIT


def queue_length(listener: socket.socket) -> int:
    """Return how many connections wait to be accepted."""
    info = listener.getsockopt(IPPROTO_TCP, _TCP_INFO, _TCP_INFO_BYTES)
    length: int = struct.unpack_from("=I", info, _TCP_INFO_QUEUE)[0]
    return length


def program(share: float, always: Sequence[bytes]) -> bytes:
    """Return the filter's instructions, 8 bytes each.

    Packets that open, end or reset a connection pass. An acknowledgement without data would
    complete a connection, so it is dropped: the data that follows also acknowledges.
    """
    offset, flags = _OFFSET_AND_FLAGS
    code = [
        _step(_LOAD_BYTE, flags),
        _step(_IF_ANY_BIT, _SYN_OR_RESET, 0, 1),
        _step(_RETURN, _PASS),
        _step(_LOAD_BYTE, offset),  # X = the length of the header
        _step(_SHIFT_RIGHT, 4),
        _step(_SHIFT_LEFT, 2),
        _step(_COPY_TO_X),
        _step(_LOAD_LENGTH),
        _step(_SUBTRACT_X),
        _step(_IF_EQUAL, 0, 0, 4),
        _step(_LOAD_BYTE, flags),
        _step(_IF_ANY_BIT, _END, 1, 0),
        _step(_RETURN, _DROP),
        _step(_RETURN, _PASS),
        _step(_LOAD_WORD, _RANDOM_WORD),
        _step(_IF_GREATER, int(share * _RANDOM_MAX), 1, 0),
        _step(_RETURN, _PASS),
    ]
    for request in always:
        code += _if_it_begins_with(request[:COMPARED_BYTES])
    return b"".join([*code, _step(_RETURN, _DROP)])


def _if_it_begins_with(request: bytes) -> list[bytes]:
    """Return steps that pass data that begins with `request`; data that is too short is dropped."""
    parts = []
    at = 0
    while at < len(request):
        size = next(size for size in _LOAD_FROM_X if size <= len(request) - at)
        parts.append((at, size, int.from_bytes(request[at : at + size], "big")))
        at += size
    steps = []
    for number, (at, size, value) in enumerate(parts):
        left = 2 * (len(parts) - number - 1) + 1
        steps += [_step(_LOAD_FROM_X[size], at), _step(_IF_EQUAL, value, 0, left)]
    return [*steps, _step(_RETURN, _PASS)]


def _step(code: int, operand: int = 0, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, operand)
