"""Validates a Redis URL at start, so that an error is reported once and not at each connect.

No message quotes a part of the URL that may belong to a password.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from urllib.parse import SplitResult

SCHEMES: Final = ("redis", "rediss")
SENTINEL_SUFFIX: Final = "+sentinel"
SENTINEL_SCHEMES: Final = tuple(scheme + SENTINEL_SUFFIX for scheme in SCHEMES)
PORT_MAX: Final = 65_535
YES: Final = ("true", "yes", "1")
YES_OR_NO: Final = (*YES, "false", "no", "0")
CERTIFICATE_CHECKS: Final = ("required", "optional", "none")
TLS_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
TLS_OPTIONS: Final = ("ssl_cert_reqs", "ssl_check_hostname", *TLS_FILES)
OPTIONS: Final = ("db", "protocol", *TLS_OPTIONS)
"""Options allowed after the question mark; Latchkey sets all others itself."""
SENTINEL_OPTIONS: Final = ("sentinel_username", "sentinel_password", "sentinel_tls")
"""Options of a sentinel URL about the sentinels themselves."""
PROTOCOLS: Final = ("2", "3")
SENTINELS_LIMIT: Final = 9
"""Maximum number of sentinels in a URL: each process holds two connections to each of them."""

ENCODE: Final = "percent-encode it there (%23 for #, %2F for /, %3F for ?, %5B for [, %5D for ])"

_DATABASE: Final = re.compile(r"[0-9]{1,6}")
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9_.])?")
_OPTION_NAME: Final = re.compile(r"[A-Za-z_]{1,40}")
_SERVICE: Final = re.compile(r"[A-Za-z0-9._-]{1,100}")


def redis_url_problems(url: str) -> list[str]:
    """Return all problems of a Redis URL, as phrases to follow the setting's name."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in (*SCHEMES, *SENTINEL_SCHEMES):
        unix = ": a Unix socket is not supported" if scheme == "unix" else ""
        starts = "redis:// or rediss://, or with redis+sentinel:// or rediss+sentinel://"
        return [f"must be an address that starts with {starts}{unix}"]
    if problem := _character_problem(rest):
        return [problem]
    if scheme in SENTINEL_SCHEMES:
        return list(_sentinel_problems(scheme, rest))
    try:
        parts = urlsplit(url)
    except ValueError:
        return ["the host in brackets is not an IPv6 address"]
    if "," in parts.netloc.rpartition("@")[2]:
        return ["names more than one server: for Sentinel, it must start with redis+sentinel://"]
    return [
        *_address_problems(parts),
        *_database_problems(parts),
        *_option_problems(parts, OPTIONS),
    ]


def _sentinel_problems(scheme: str, rest: str) -> Iterator[str]:
    """Check `[user:password@]host:port,host:port/service/db?options`."""
    authority = re.split(r"[/?]", rest, maxsplit=1)[0]
    path, _, query = rest.removeprefix(authority).partition("?")
    hosts = authority.rpartition("@")[2].split(",")
    if len(hosts) > SENTINELS_LIMIT:
        yield f"names {len(hosts)} sentinels: at most {SENTINELS_LIMIT} are allowed"
    if len(set(hosts)) < len(hosts):
        yield "names a sentinel twice"
    problems = [problem for host in hosts for problem in _host_problems(host)]
    yield from dict.fromkeys(problems)
    service, slash, database = path.removeprefix("/").partition("/")
    if not service or (_DATABASE.fullmatch(service) and not slash):
        yield "needs the name of the service that the sentinels watch, as in …/mymaster/0"
    elif not _SERVICE.fullmatch(service):
        yield "the name of the service may contain only letters, digits, `.`, `-` and `_`"
    if database and not _DATABASE.fullmatch(database):
        yield "the path must end with a database number, as in …/mymaster/0"
    plain = scheme.removesuffix(SENTINEL_SUFFIX)
    parts = urlsplit(f"{plain}://any/{database}?{query}")
    given = dict(parse_qsl(query, keep_blank_values=True))
    yield from _option_problems(parts, (*OPTIONS, *SENTINEL_OPTIONS), tls_of=given)
    if "sentinel_username" in given and not given.get("sentinel_password"):
        yield "the option `sentinel_username` requires `sentinel_password`"


def _host_problems(host: str) -> Iterator[str]:
    if not host:
        yield "needs at least one sentinel, and none in its list may be empty"
        return
    try:
        yield from _address_problems(urlsplit(f"redis://{host}"))
    except ValueError:
        yield "the host in brackets is not an IPv6 address"


def _character_problem(rest: str) -> str:
    """Find a character that would split the URL in the wrong place."""
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    user = authority.rpartition("@")[0]
    if not rest.isprintable() or " " in rest:
        return "contains a space or an unprintable character: percent-encode it"
    if "@" in rest and "@" not in authority:
        return f"the user or password contains a `#`, `/` or `?`: {ENCODE}"
    if "[" in user or "]" in user:
        return f"the user or password contains a `[` or `]`: {ENCODE}"
    if "#" in rest:
        return f"must not contain `#`; if it belongs to the password, {ENCODE}"
    return ""


def _address_problems(parts: SplitResult) -> Iterator[str]:
    address = parts.netloc.rpartition("@")[2]
    if address.count(":") > 1 and not address.startswith("["):
        yield "an IPv6 host must be in brackets, as in redis://[::1]:6379/0"
        return
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = parts.hostname, 0
    if not host:
        yield "needs a host, as in redis://localhost:6379/0"
    elif address.startswith("["):
        if not _is_ipv6(unquote(host)):
            yield "the host in brackets is not an IPv6 address"
    elif not _HOST_NAME.fullmatch(host) or ".." in host:
        yield "the host is neither a name nor an address"
    if port is not None and not 1 <= port <= PORT_MAX:
        yield (
            f"the port must be a number from 1 to {PORT_MAX}; "
            f"if the part after the colon is a password, add @ and the host after it, and if it "
            f"contains a `#`, `/` or `?`, {ENCODE}"
        )


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True


def _database_problems(parts: SplitResult) -> Iterator[str]:
    database = parts.path.removeprefix("/")
    if database and not _DATABASE.fullmatch(database):
        yield (
            "the path must be a database number, as in redis://localhost/0; the name of a service "
            "requires redis+sentinel://"
        )


def _option_problems(
    parts: SplitResult, options: Sequence[str], *, tls_of: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Check the options; duplicates are refused because one of them would be ignored."""
    given: dict[str, str] = {}
    tls = parts.scheme == "rediss" or (
        tls_of is not None and tls_of.get("sentinel_tls", "").lower() in YES
    )
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        allowed = [option for option in options if tls or option not in TLS_OPTIONS]
        if name in given:
            yield f"the option `{name}` is given twice"
        elif name not in allowed:
            shown = f"the option `{name}`" if _OPTION_NAME.fullmatch(name) else "an option"
            only = "only with rediss://" if name in options else f"allowed: {', '.join(options)}"
            yield f"{shown} cannot be set here ({only})"
        else:
            given[name] = value
    if "db" in given and parts.path.strip("/"):
        yield "gives the database twice: in its path and in the option `db`"
    for name, value in given.items():
        if problem := _value_problem(name, value):
            yield f"the option `{name}` must be {problem}"
    if "ssl_keyfile" in given and "ssl_certfile" not in given:
        yield "the option `ssl_keyfile` requires `ssl_certfile`"
    yield from _file_problems(given)


def _value_problem(name: str, value: str) -> str:
    if name == "db":
        return "" if _DATABASE.fullmatch(value) else "a database number"
    if name == "protocol":
        return "" if value in PROTOCOLS else "2 or 3"
    if name == "ssl_cert_reqs":
        known = value in CERTIFICATE_CHECKS
        return "" if known else f"one of {', '.join(CERTIFICATE_CHECKS)}"
    if name in {"ssl_check_hostname", "sentinel_tls"}:
        return "" if value.lower() in YES_OR_NO else "true or false"
    return "" if value else "a value" if name in SENTINEL_OPTIONS else "a file name"


def _file_problems(given: Mapping[str, str]) -> Iterator[str]:
    """Load the TLS files at start; broken ones would otherwise fail at each connect."""
    context = ssl.create_default_context()
    try:
        if path := given.get("ssl_ca_certs"):
            context.load_verify_locations(path)
    except (OSError, ValueError):
        yield "the option `ssl_ca_certs` must name a readable file of PEM certificates"
    try:
        if path := given.get("ssl_certfile"):
            context.load_cert_chain(path, given.get("ssl_keyfile") or None, password=_no_password)
    except (OSError, ValueError):
        yield (
            "the options `ssl_certfile` and `ssl_keyfile` must name readable, matching PEM "
            "files, the key without a password"
        )


def _no_password() -> str:
    """Raise instead of prompting for a key's password on the terminal."""
    message = "the key has a password"
    raise ValueError(message)
