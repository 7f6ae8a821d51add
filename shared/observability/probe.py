"""Container health check: `python -m shared.observability.probe`.

Requests `/readyz` at PORT on this machine, or at the default port of whichever service runs here.
Exits with 0 if ready, else prints the answer and exits with 1. An engine runs it again and again,
so it imports next to nothing, and no installed package.
"""

from __future__ import annotations

import os
import socket
import sys

DEFAULT_PORTS = (18789, 18790)
"""The ports of a gateway and of an approval service if PORT is not set."""
TIMEOUT_SECONDS = 3.0
ANSWER_MAX_BYTES = 65_536
REQUEST = b"GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n"


def probe(port: int) -> str:
    """Return why the service on this port of 127.0.0.1 is not ready; empty if it is."""
    try:
        with socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS) as connection:
            connection.sendall(REQUEST)
            answer = b""
            while len(answer) < ANSWER_MAX_BYTES and (part := connection.recv(ANSWER_MAX_BYTES)):
                answer += part
    except OSError as error:
        return f"{type(error).__name__}: {error}"
    head, _, body = answer.partition(b"\r\n\r\n")
    if head.startswith((b"HTTP/1.1 200 ", b"HTTP/1.0 200 ")):
        return ""
    return (body or head).decode(errors="replace") or "no answer"


def main() -> int:
    """Run the health check and return the exit status."""
    given = os.environ.get("PORT", "").strip()
    if given and not given.isdecimal():
        sys.stderr.write("PORT is not a number\n")
        return 1
    for port in (int(given),) if given else DEFAULT_PORTS:
        trouble = probe(port)
        if not trouble:
            return 0
        sys.stderr.write(f"port {port}: {trouble}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
