"""HTTP rules beyond those of aiohttp's parser, the same for both services.

aiohttp parses; this module checks the result: versions other than 1.0 and 1.1, an invalid Host,
message framing of HTTP/1.0, and unsupported targets and transfer codings (RFC 9110, RFC 9112).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from aiohttp import hdrs
from aiohttp.http import HttpProcessingError, HttpRequestParser, HttpVersion10, HttpVersion11
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong
from multidict import CIMultiDict, CIMultiDictProxy

if TYPE_CHECKING:
    from aiohttp.http import RawRequestMessage

SERVER_NAME: Final = "latchkey"
"""The Server header, without a version."""

_VERSIONS: Final = frozenset({HttpVersion10, HttpVersion11})
_HOST: Final = re.compile(
    r"(?:[a-z0-9._~!$&'()*+,;=-]|%[0-9a-f]{2})*(?::[0-9]*)?|\[[0-9a-f:.]+\](?::[0-9]*)?",
    re.IGNORECASE | re.ASCII,
)
_SCHEMES: Final = frozenset({"http", "https", "ws", "wss"})
LINE_LIMIT_BYTES: Final = 8190
"""The longest request line, and the longest header, that aiohttp accepts by default."""
_BODY_BUFFER_BYTES: Final = 2**16
"""A parser's body buffer; unused, because an upgrade request has no body."""
_UNUSED: Final[Any] = None
"""A parser's protocol and loop, both for the body."""
_NAMED_VERSION: Final = b" HTTP/"
_OTHER_PROTOCOLS: Final = (b" RTSP/", b" ICE/")
_REMEMBERED_HOSTS: Final = 256


class VersionNotSupported(BadHttpMessage):
    """A request of a version other than 1.0 and 1.1."""


class NotImplementedHere(BadHttpMessage):
    """A method or transfer coding that is not implemented."""


def status_of(error: Exception) -> int:
    """Return the response status for a request that could not be parsed."""
    if isinstance(error, VersionNotSupported):
        return 505
    if isinstance(error, NotImplementedHere):
        return 501
    if isinstance(error, LineTooLong):
        line = error.args[0]
        text = line if isinstance(line, str) else bytes(line).decode("latin-1")
        return 414 if text.startswith("/") or "://" in text else 431
    return 400


def parse_upgrade(head: bytes) -> RawRequestMessage | None:
    """Parse the head of a request; None unless it is valid and asks for an upgrade.

    Only the head is parsed, without what follows: aiohttp rejects an upgrade that has a body.
    """
    parser = HttpRequestParser(
        _UNUSED,
        _UNUSED,
        _BODY_BUFFER_BYTES,
        max_line_size=LINE_LIMIT_BYTES,
        max_field_size=LINE_LIMIT_BYTES,
    )
    try:
        messages, upgraded, _ = parser.feed_data(head)
        return checked(messages[0][0]) if upgraded and len(messages) == 1 else None
    except HttpProcessingError:
        return None


class StrictParser:
    """aiohttp's request parser with stricter checks."""

    __slots__ = ("_first_line", "_parser")

    def __init__(self, parser: HttpRequestParser) -> None:
        self._parser = parser
        self._first_line: bytes | None = b""
        """The first line of the connection until it is complete; then None."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)

    def feed_data(self, data: bytes) -> tuple[Any, bool, bytes]:
        """Parse bytes; raises HttpProcessingError for requests to refuse."""
        if self._first_line is not None:
            self._look_at_first_line(self._first_line + data)
        messages, upgraded, tail = self._parser.feed_data(data)
        if messages:
            messages = [(checked(message), payload) for message, payload in messages]
        return messages, upgraded, tail

    def _look_at_first_line(self, seen: bytes) -> None:
        """Refuse HTTP/0.9, whose request is a single line: the parser would wait for more."""
        lines = seen.lstrip(b"\r\n")
        if b"\n" not in lines:
            self._first_line = None if len(lines) > LINE_LIMIT_BYTES else lines
            return
        self._first_line = None
        if is_other_version(lines):
            raise VersionNotSupported("The HTTP version is not supported")


def is_other_version(head: bytes) -> bool:
    """Return whether a request with a complete first line is HTTP/0.9 or another protocol.

    aiohttp's parser accepts RTSP and ICE as HTTP.
    """
    line = head.partition(b"\n")[0]
    named = line.upper()
    if line.startswith(b"GET "):
        return _NAMED_VERSION not in named
    return any(other in named for other in _OTHER_PROTOCOLS)


@lru_cache(_REMEMBERED_HOSTS)
def _is_host(text: str) -> bool:
    return _HOST.fullmatch(text) is not None


def checked(message: RawRequestMessage) -> RawRequestMessage:
    """Validate and normalise a request; raises BadHttpMessage.

    A target in absolute form takes precedence over the Host header.
    """
    if message.version not in _VERSIONS:
        raise VersionNotSupported("Only HTTP/1.0 and HTTP/1.1 are supported")
    if message.method == hdrs.METH_CONNECT:
        raise NotImplementedHere("Tunnels are not supported")
    headers = message.headers
    coding = headers.get(hdrs.TRANSFER_ENCODING)
    if coding is not None:
        if message.version == HttpVersion10:
            raise BadHttpMessage("HTTP/1.0 has no Transfer-Encoding")
        if coding.lower() != "chunked":
            raise NotImplementedHere("The only supported transfer coding is chunked")
    if not _is_host(headers.get(hdrs.HOST, "")):
        raise BadHttpMessage("The Host header is invalid")
    if message.path.startswith(("/", "*")):
        return message
    url = message.url
    if url.scheme not in _SCHEMES or url.raw_user is not None or not url.raw_authority:
        raise BadHttpMessage("The request target is invalid")
    named = CIMultiDict(headers)
    named[hdrs.HOST] = url.raw_authority
    return message._replace(headers=CIMultiDictProxy(named))
