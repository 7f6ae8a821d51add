"""Minimal Redis client for one command, whose reply is the line that Redis sends."""

from __future__ import annotations

import socket
from typing import BinaryIO, Final

from deploy.local.ports import HOST

TIMEOUT_SECONDS: Final = 5.0


class RedisCallError(Exception):
    """An error reply from Redis, with its text."""


def call_redis(port: int, user: str, password: str, *words: str) -> str:
    """Log in, send one command and return its one-line reply (status, number, or bulk length).

    Raises RedisCallError, and OSError without a reply within TIMEOUT_SECONDS.
    """
    request = _encode("AUTH", user, password) + _encode(*words)
    with socket.create_connection((HOST, port), timeout=TIMEOUT_SECONDS) as connection:
        connection.sendall(request)
        with connection.makefile("rb") as replies:
            _read(replies)
            return _read(replies)


def _read(replies: BinaryIO) -> str:
    line = replies.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionResetError
    kind, text = line[:1], line[1:].decode().rstrip()
    if kind == b"-":
        raise RedisCallError(text)
    return text


def _encode(*words: str) -> bytes:
    parts = [f"*{len(words)}\r\n".encode()]
    for word in words:
        data = word.encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
    return b"".join(parts)
