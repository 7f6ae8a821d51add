"""Requests as raw bytes, and the status that HTTP (RFC 9110, 9112) and RFC 6455 require."""

from __future__ import annotations

from typing import Final, NamedTuple

HOST: Final = b"Host: gateway.example\r\n"
CLOSE: Final = b"Connection: close\r\n"
UPGRADE: Final = (
    HOST
    + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
SECRET: Final = b"reflected-nowhere"


class Row(NamedTuple):
    """A request, and the status that answers it."""

    name: str
    sent: bytes
    status: int


def get(
    target: bytes = b"/livez",
    version: bytes = b"HTTP/1.1",
    headers: bytes = HOST,
    method: bytes = b"GET",
) -> bytes:
    """Return a request without a body that ends the connection."""
    return method + b" " + target + b" " + version + b"\r\n" + headers + CLOSE + b"\r\n"


def post(headers: bytes, body: bytes = b"", version: bytes = b"HTTP/1.1") -> bytes:
    """Return a request with these framing headers and this body."""
    return b"POST /livez " + version + b"\r\n" + HOST + CLOSE + headers + b"\r\n" + body


CHUNKED: Final = b"Transfer-Encoding: chunked\r\n"
NO_CHUNKS: Final = b"0\r\n\r\n"

REQUESTS: Final = (
    Row("HTTP/1.1", get(), 200),
    Row("HTTP/1.0", get(version=b"HTTP/1.0"), 200),
    Row("HTTP/1.0 without Host", get(version=b"HTTP/1.0", headers=b""), 200),
    Row("an empty line before", b"\r\n" + get(), 200),
    Row("chunks", post(CHUNKED, NO_CHUNKS), 405),
    # Versions (RFC 9110 2.5, 15.6.6).
    Row("HTTP/0.9 by its one line", b"GET /livez\r\n", 505),
    Row("HTTP/0.9 by its one line, LF", b"GET /livez\n", 505),
    Row("HTTP/0.9 with headers", b"GET /livez\r\n" + HOST + b"\r\n", 505),
    Row("HTTP/0.9 named", get(version=b"HTTP/0.9"), 505),
    Row("HTTP/2.0", get(version=b"HTTP/2.0"), 505),
    Row("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    Row("HTTP/3.0", get(version=b"HTTP/3.0"), 400),
    Row("HTTP/1", get(version=b"HTTP/1"), 400),
    Row("HTTP/01.1", get(version=b"HTTP/01.1"), 400),
    Row("http/1.1", get(version=b"http/1.1"), 400),
    Row("RTSP", get(version=b"RTSP/1.0"), 505),
    Row("RTSP by POST", get(method=b"POST", version=b"RTSP/1.1"), 505),
    Row("another protocol", get(method=b"POST", version=b"HTTPS/1.1"), 400),
    Row("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    # The request line (RFC 9112 3).
    Row("an unknown method", get(method=b"BREW"), 400),
    Row("a method in lower case", get(method=b"get"), 400),
    Row("CONNECT", b"CONNECT gateway.example:80 HTTP/1.1\r\n" + HOST + b"\r\n", 501),
    Row("tabs", b"GET\t/livez\tHTTP/1.1\r\n" + HOST + b"\r\n", 400),
    Row("a blank in the target", get(b"/li vez?" + SECRET), 400),
    Row("a NUL in the target", get(b"/livez\x00" + SECRET), 400),
    Row("a fragment in the target is passed over", get(b"/livez#" + SECRET), 200),
    Row("a target that is no path", get(SECRET), 400),
    Row("an asterisk for GET", get(b"*"), 400),
    Row("a target that is too long", get(b"/" + b"a" * 9_000), 414),
    # The absolute form has to be taken (RFC 9112 3.2.2).
    Row("absolute form", get(b"http://gateway.example/livez"), 200),
    Row("absolute form of https", get(b"https://gateway.example:443/livez"), 200),
    Row("absolute form of another Host", get(b"http://other.example/livez"), 200),
    Row("absolute form without Host", get(b"http://gateway.example/livez", headers=b""), 400),
    Row("absolute form with a user", get(b"http://" + SECRET + b"@gateway.example/livez"), 400),
    Row("absolute form without a host", get(b"http:///livez"), 400),
    Row("absolute form of ftp", get(b"ftp://gateway.example/livez"), 400),
    # Host (RFC 9112 3.2).
    Row("no Host", get(headers=b""), 400),
    Row("two Hosts", get(headers=HOST + HOST), 400),
    Row("an IPv6 Host", get(headers=b"Host: [::1]:18789\r\n"), 200),
    Row("a Host of two", get(headers=b"Host: a.example, b.example\r\n"), 400),
    Row("a Host with a path", get(headers=b"Host: a.example/x\r\n"), 400),
    Row("a Host with a user", get(headers=b"Host: u@a.example\r\n"), 400),
    Row("a Host with a wrong port", get(headers=b"Host: a.example:http\r\n"), 400),
    Row("a Host with an open bracket", get(headers=b"Host: [::1\r\n"), 400),
    # Header lines (RFC 9112 5).
    Row("a folded line", get(headers=HOST + b"X-A: a\r\n " + SECRET + b"\r\n"), 400),
    Row("a blank before the first line", get(headers=b" " + HOST + HOST), 400),
    Row("a blank before the colon", get(headers=b"Host : a.example\r\n"), 400),
    Row("a blank in a name", get(headers=HOST + b"X A: " + SECRET + b"\r\n"), 400),
    Row("no colon", get(headers=HOST + SECRET + b"\r\n"), 400),
    Row("no name", get(headers=HOST + b": " + SECRET + b"\r\n"), 400),
    Row("a NUL in a value", get(headers=HOST + b"X: a\x00" + SECRET + b"\r\n"), 400),
    Row("a control character in a value", get(headers=HOST + b"X: a\x01b\r\n"), 400),
    Row("lines that end with LF", b"GET /livez HTTP/1.1\nHost: a\nConnection: close\n\n", 400),
    Row("a line that ends with CR", get(headers=b"Host: a\rX: b\r\n"), 400),
    Row("a header that is too long", get(headers=HOST + b"X: " + b"a" * 9_000 + b"\r\n"), 431),
    # Message framing (RFC 9112 6).
    Row("length and chunks", post(b"Content-Length: 5\r\n" + CHUNKED, NO_CHUNKS), 400),
    Row("chunks and length", post(CHUNKED + b"Content-Length: 5\r\n", NO_CHUNKS), 400),
    Row("two equal lengths", post(b"Content-Length: 5\r\n" * 2, b"hello"), 400),
    Row("two lengths", post(b"Content-Length: 5\r\nContent-Length: 6\r\n", b"hello!"), 400),
    Row("a list of lengths", post(b"Content-Length: 5, 5\r\n", b"hello"), 400),
    Row("a signed length", post(b"Content-Length: +5\r\n", b"hello"), 400),
    Row("a negative length", post(b"Content-Length: -5\r\n", b"hello"), 400),
    Row("a hexadecimal length", post(b"Content-Length: 0x5\r\n", b"hello"), 400),
    Row("an empty length", post(b"Content-Length: \r\n"), 400),
    Row("an endless length", post(b"Content-Length: " + b"9" * 23 + b"\r\n", b"hello"), 400),
    Row("chunks of HTTP/1.0", post(CHUNKED, NO_CHUNKS, b"HTTP/1.0"), 400),
    Row("chunks twice", post(CHUNKED * 2, NO_CHUNKS), 400),
    Row("a coding before chunked", post(b"Transfer-Encoding: gzip, chunked\r\n", NO_CHUNKS), 501),
    Row("a coding after chunked", post(b"Transfer-Encoding: chunked, gzip\r\n", NO_CHUNKS), 400),
    Row("a coding without chunked", post(b"Transfer-Encoding: gzip\r\n", b"hello"), 400),
    Row("nearly chunked", post(b"Transfer-Encoding: xchunked\r\n", NO_CHUNKS), 400),
    Row("chunked with a tab", post(b"Transfer-Encoding: \x0bchunked\r\n", NO_CHUNKS), 400),
    Row("chunked with a blank name", post(b"Transfer-Encoding : chunked\r\n", NO_CHUNKS), 400),
    Row("a chunk without a size", post(CHUNKED, b"xyz\r\n\r\n"), 400),
    Row("a chunk of negative size", post(CHUNKED, b"-1\r\n\r\n"), 400),
)
"""Rows for every port of both services."""


def upgrade(
    more: bytes = b"",
    *,
    line: bytes = b"GET / HTTP/1.1",
    headers: bytes = UPGRADE,
    body: bytes = b"",
) -> bytes:
    """Return a request for a WebSocket."""
    return line + b"\r\n" + headers + more + b"\r\n" + body


def changed(header: bytes, to: bytes) -> bytes:
    """Return a request for a WebSocket with other bytes in one place."""
    assert UPGRADE.count(header) == 1
    return upgrade(headers=UPGRADE.replace(header, to))


UPGRADES: Final = (
    Row("sound", upgrade(), 101),
    Row("other letters", changed(b"Upgrade: websocket", b"upgrade: WebSocket"), 101),
    Row("among other options", changed(b": Upgrade", b": keep-alive, upgrade"), 101),
    Row("absolute form", upgrade(line=b"GET ws://gateway.example/ HTTP/1.1"), 101),
    Row("an empty body", upgrade(b"Content-Length: 0\r\n"), 101),
    # A request with a body is answered, and no socket.
    Row("a body", upgrade(b"Content-Length: 5\r\n", body=b"hello"), 400),
    Row("a body of chunks", upgrade(CHUNKED, body=b"5\r\nhello\r\n0\r\n\r\n"), 400),
    Row("a body of no chunks", upgrade(CHUNKED, body=NO_CHUNKS), 400),
    Row("a frame for a body", upgrade(b"Content-Length: 6\r\n", body=b"\x81\x80abcd"), 400),
    Row("two framings", upgrade(b"Content-Length: 5\r\n" + CHUNKED, body=NO_CHUNKS), 400),
    # RFC 6455 4.2.1.
    Row("HTTP/1.0", upgrade(line=b"GET / HTTP/1.0"), 400),
    Row("HTTP/0.9", upgrade(line=b"GET / HTTP/0.9"), 505),
    Row("HTTP/2.0", upgrade(line=b"GET / HTTP/2.0"), 505),
    Row("POST", upgrade(b"Content-Length: 0\r\n", line=b"POST / HTTP/1.1"), 400),
    Row("no Host", changed(HOST, b""), 400),
    Row("two Hosts", upgrade(HOST), 400),
    Row("a Host that is none", changed(HOST, b"Host: a b\r\n"), 400),
    Row("a folded line", upgrade(b"X-A: a\r\n b\r\n"), 400),
    Row("no Connection", changed(b"Connection: Upgrade\r\n", b""), 400),
    Row("another option", changed(b": Upgrade", b": not-upgrade"), 400),
    Row("two keys", upgrade(b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), 400),
    Row("two other keys", upgrade(b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"), 400),
    Row("no key", changed(b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b""), 400),
    Row("a short key", changed(b"dGhlIHNhbXBsZSBub25jZQ==", b"c2hvcnQ="), 400),
    Row(
        "a key with rubbish",
        changed(b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhlIHNhbXBsZSBub25jZQ== x"),
        400,
    ),
    Row("two versions", upgrade(b"Sec-WebSocket-Version: 13\r\n"), 400),
    Row("no version", changed(b"Sec-WebSocket-Version: 13\r\n", b""), 400),
    Row("version 8", changed(b"Version: 13", b"Version: 8"), 426),
    Row("a list of versions", changed(b"Version: 13", b"Version: 13, 8"), 426),
    Row("version 013", changed(b"Version: 13", b"Version: 013"), 426),
)
"""Rows for a gateway."""
