"""Settings from the environment: all problems are collected and reported in one message."""

from __future__ import annotations

import hmac
import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from shared.server.plain_limits import PlainLimits
from shared.settings.declarations import PORT_MAX, AnySetting, Choice, Number, Secret, Setting
from shared.settings.redis_url import redis_url_problems
from shared.settings.secret_files import read_secret_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_BARE_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/{2,}")
SHOWN_MAX_CHARACTERS: Final = 200
"""Maximum length of an invalid value shown in a message."""


class SettingsError(Exception):
    """All problems of the settings, one line each, with the remedy."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class Secrets:
    """One or more values of a secret: the first is used, all are accepted. Never printed."""

    __slots__ = ("_encoded", "_values")

    def __init__(self, values: Sequence[str]) -> None:
        self._values = tuple(values)
        self._encoded = tuple(value.encode() for value in values)

    def __repr__(self) -> str:
        return f"<{len(self._values)} secret values>"

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    @property
    def first(self) -> str:
        """The value to use."""
        return self._values[0]

    def accepts(self, candidate: str) -> bool:
        """Return whether the candidate equals a value, in constant time for its length."""
        given = candidate.encode()
        found = False
        for value in self._encoded:
            found |= hmac.compare_digest(value, given)
        return found


class SettingsReader:
    """Reads typed settings from a mapping and collects problems until `finish`."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.problems: list[str] = []
        self.warnings: list[str] = []

    def text(self, setting: Setting) -> str:
        """Return a setting unchanged; an empty value counts as not set.

        A bare scheme, alone or in a comma list, counts as not set too and causes a warning.
        """
        if setting.secret and not self._read_file_of(setting.name):
            return ""
        return self._text(setting.name) or setting.default

    def _text(self, name: str) -> str:
        given = self._environ.get(name, "").strip()
        if not _is_text(given):
            self._note_once(f"{name}: must be text in UTF-8")
            return ""
        parts = given.split(",")
        bare = [part.strip() for part in parts if is_bare_scheme(part)]
        if bare:
            self._warn_once(
                f"{name}: {bare[0]} has no host after it and counts as not set; "
                "is a variable in it empty?"
            )
            given = ",".join(part for part in parts if not is_bare_scheme(part)).strip()
        return given

    def _note_once(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)

    def _warn_once(self, warning: str) -> None:
        if warning not in self.warnings:
            self.warnings.append(warning)

    def secrets(self, setting: Secret) -> Secrets:
        """Return a required comma list of secrets, each of at least `least` characters."""
        name, least, advised = setting.name, setting.least, setting.advised
        if not self._read_file_of(name):
            return Secrets(())
        given = self._environ.get(name, "")
        if not _is_text(given):
            self._note_once(f"{name}: must be text in UTF-8")
            return Secrets(())
        values = [value for part in given.split(",") if (value := part.strip())]
        if not values:
            self.problems.append(
                f"{name} is not set: use a random string of at least {least} characters, "
                "such as the output of `openssl rand -hex 32`"
            )
        for value in values:
            if len(value) < least:
                self.problems.append(
                    f"{name} has a value of {len(value)} characters: at least {least} are required"
                )
            elif advised is not None and len(value) < advised:
                self.warnings.append(
                    f"{name} has a value of {len(value)} characters: {advised} are recommended"
                )
        return Secrets(values)

    def _read_file_of(self, name: str) -> bool:
        """Read the file that holds a secret, if one is named; return False if that failed."""
        self._environ, problems = read_secret_files(self._environ, (name,))
        for problem in problems:
            self._note_once(problem)
        return not problems

    def integer(self, setting: Number) -> int:
        """Return a whole number within the limits."""
        return int(self._number(setting, int, "a whole number"))

    def seconds(self, setting: Number) -> float:
        """Return a duration in seconds within the limits."""
        return self._number(setting, float, "a number of seconds")

    def _number(self, setting: Number, convert: Callable[[str], float], kind: str) -> float:
        name, least, most = setting.name, setting.least, setting.most
        given = self._text(name)
        if not given:
            return setting.default
        try:
            value = convert(given)
        except ValueError:
            value = None
        if value is None or not least <= value <= most:
            self.problems.append(f"{name}={shown(given)}: must be {kind} from {least} to {most}")
            return setting.default
        return value

    def optional_port(self, setting: Setting) -> int | None:
        """Return a TCP port, or None if it is not set; 0 lets the system choose."""
        if not self.text(setting):
            return None
        return self.integer(Number(setting.name, setting.meaning, 0, least=0, most=PORT_MAX))

    def choice(self, setting: Choice) -> str:
        """Return one of the allowed words."""
        value = self._text(setting.name) or setting.default
        if value not in setting.allowed:
            self.problems.append(
                f"{setting.name}={shown(value)}: must be one of {', '.join(setting.allowed)}"
            )
            return setting.default
        return value

    def hosts(self, setting: Setting) -> tuple[str, ...]:
        """Return a comma list of addresses to listen on."""
        hosts = tuple(h for part in self.text(setting).split(",") if (h := part.strip()))
        if not hosts:
            self.problems.append(f"{setting.name}: must name at least one address to listen on")
        return hosts

    def redis_url(self, setting: Setting) -> str:
        """Return the required URL of a Redis server."""
        name = setting.name
        if not self._read_file_of(name):
            return ""
        value = self.text(setting)
        if value:
            self.problems.extend(f"{name}: {problem}" for problem in redis_url_problems(value))
        elif not any(problem.startswith(f"{name}:") for problem in self.problems):
            given = self._environ.get(name, "").strip()
            how = f"{shown(given)} has no host after it" if given else "is not set"
            self.problems.append(f"{name} {how}: give a redis:// address")
        return value

    def url(self, setting: Setting, schemes: Sequence[str]) -> str:
        """Return an absolute URL with one of the schemes, or an empty string."""
        name, value = setting.name, self.text(setting)
        if not value:
            return ""
        try:
            parts = urlsplit(value)
            sound = parts.scheme in schemes and bool(parts.hostname)
            _ = parts.port
        except ValueError:
            sound = False
        if not sound:
            wanted = " or ".join(f"{scheme}://" for scheme in schemes)
            self.problems.append(f"{name}: must be an address that starts with {wanted}")
        return value

    def public_url(self, setting: Setting, schemes: Sequence[str]) -> str:
        """Return an address that is shown to people and therefore must not contain secrets."""
        name, value = setting.name, self.url(setting, schemes)
        if any(mark in value for mark in "@?#{}") or not value.isprintable():
            self.problems.append(
                f"{name}: must not contain user, password, query, fragment or braces"
            )
        return value.rstrip("/")

    def networks(self, setting: Setting) -> tuple[Network, ...]:
        """Return a comma list of CIDR ranges or single addresses."""
        name = setting.name
        found: list[Network] = []
        for part in self.text(setting).split(","):
            if value := part.strip():
                try:
                    found.append(ipaddress.ip_network(value))
                except ValueError:
                    self.problems.append(f"{name}: {shown(value)} is not an address or CIDR range")
        return tuple(found)

    def finish(self) -> None:
        """Raise SettingsError if there was any problem."""
        if self.problems:
            raise SettingsError(self.problems)


def is_bare_scheme(value: str) -> bool:
    """Return whether an address ends before its host: `https://`.

    Platforms substitute variables that are still empty, as at a first deployment.
    """
    return _BARE_SCHEME.fullmatch(value.strip()) is not None


def shown(value: str) -> str:
    """Return an invalid value for a message: on one line and truncated."""
    safe = "".join(one if one.isprintable() else f"\\x{ord(one):02x}" for one in value)
    most = SHOWN_MAX_CHARACTERS
    return safe if len(safe) <= most else f"{safe[:most]}…"


def _is_text(value: str) -> bool:
    """Return False for bytes that are not UTF-8, which appear as lone surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def path_of(url: str) -> str:
    """Return the path of a public address: the prefix under which proxies serve it, or empty."""
    return urlsplit(url).path.rstrip("/")


def origin_of(url: str) -> str | None:
    """Return the origin of an http(s) URL as browsers write it, or None."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    default = 443 if parts.scheme == "https" else 80
    return f"{parts.scheme}://{host}" + (f":{port}" if port not in {None, default} else "")


# The settings of both services. `meaning` is Markdown for docs/reference/settings.md.

REDIS_URL: Final = Setting(
    "REDIS_URL",
    "Address of Redis: `redis://` or `rediss://`, with user, password, host, port and database;"
    " or `redis+sentinel://` or `rediss+sentinel://` with the sentinels, as in"
    " `redis+sentinel://user:password@host:26379,host:26379/service/0`."
    " Give each service its own Redis user. Percent-encode `#`, `/`, `?` and brackets in a password"
    " (`%23`, `%2F`, `%3F`, `%5B`, `%5D`). The only options are `db`, `protocol` (2 or 3), with"
    " `rediss`, `ssl_ca_certs`, `ssl_cert_reqs`, `ssl_certfile`, `ssl_keyfile` and"
    " `ssl_check_hostname`, and for the sentinels' own login and TLS `sentinel_username`,"
    " `sentinel_password` and `sentinel_tls`.",
    required="required",
    secret=True,
)
BUS_SECRET: Final = Secret(
    "BUS_SECRET", "Encrypts the messages that the services exchange over Redis pub/sub."
)
HOST: Final = Setting("HOST", "Comma list of addresses to listen on.", "127.0.0.1,::1")
OPS_PORT: Final = Setting(
    "OPS_PORT",
    "A second port for `/metrics`, `/readyz` and `/livez`. If set, the main port serves no metrics,"
    " and its `/readyz` gives no reasons.",
)
TRUSTED_PROXIES: Final = Setting(
    "TRUSTED_PROXIES",
    "Comma list of CIDR ranges of your proxies. Only their forwarding headers are used to find the"
    " client's address.",
)
APPROVAL_PUBLIC_URL: Final = Setting(
    "APPROVAL_PUBLIC_URL",
    "Public address of the approval service, with the path if a proxy serves it below one. It is"
    " shown in refusals, in logs and on the gateway's page, and the gateway's `/setup` redirects"
    " there. With https, the operators' cookie is `Secure`.",
)
GATEWAY_PUBLIC_URL: Final = Setting(
    "GATEWAY_PUBLIC_URL",
    "Public address of the gateways, with the path if a proxy serves them below one. It is shown on"
    " the gateway's page and on the operators' page.",
)
LOG_LEVEL: Final = Choice(
    "LOG_LEVEL",
    "The least severe log events to write.",
    "info",
    ("debug", "info", "warning", "error"),
)
LOG_FORMAT: Final = Choice(
    "LOG_FORMAT",
    "Format of log lines; `auto` is `console` on a terminal and `json` elsewhere.",
    "auto",
    ("auto", "console", "json"),
)
HTTP_REQUESTS_LIMIT: Final = Number(
    "HTTP_REQUESTS_LIMIT",
    "Maximum number of plain HTTP requests in progress; more wait for up to 5 s. Health checks and"
    " event streams are not counted. When the limit is reached, an anonymous request of the address"
    " with the most is dropped.",
    256,
    least=1,
    most=100_000,
)
HTTP_REQUESTS_LIMIT_PER_ADDRESS: Final = Number(
    "HTTP_REQUESTS_LIMIT_PER_ADDRESS",
    "Maximum number of plain HTTP requests in progress from one address (IPv6: one /64).",
    32,
    least=1,
    most=100_000,
)
HTTP_STALL_SECONDS: Final = Number(
    "HTTP_STALL_SECONDS",
    "How long a client of plain HTTP may take to send 16 KiB of a request's body, or to read 16 KiB"
    " of a response, or what is left of either, in seconds; then it is disconnected.",
    20,
    least=0.25,
    most=600,
)
COMMON: Final[tuple[AnySetting, ...]] = (
    REDIS_URL,
    BUS_SECRET,
    HOST,
    OPS_PORT,
    TRUSTED_PROXIES,
    GATEWAY_PUBLIC_URL,
    APPROVAL_PUBLIC_URL,
    HTTP_REQUESTS_LIMIT,
    HTTP_REQUESTS_LIMIT_PER_ADDRESS,
    HTTP_STALL_SECONDS,
    LOG_LEVEL,
    LOG_FORMAT,
)


def port_setting(default: int) -> Number:
    """Declare the port that a service listens on."""
    return Number("PORT", "Port to listen on; 0 lets the system choose.", default, 0, PORT_MAX)


@dataclass(frozen=True, slots=True)
class CommonSettings:
    """The settings common to both services."""

    redis_url: str
    bus_secrets: Secrets
    hosts: tuple[str, ...]
    port: int
    ops_port: int | None
    trusted_proxies: tuple[Network, ...]
    approval_public_url: str
    plain_limits: PlainLimits
    log_level: str
    log_format: str


def read_common(reader: SettingsReader, port: Number) -> CommonSettings:
    """Read the settings common to both services."""
    return CommonSettings(
        redis_url=reader.redis_url(REDIS_URL),
        bus_secrets=reader.secrets(BUS_SECRET),
        hosts=reader.hosts(HOST),
        port=reader.integer(port),
        ops_port=reader.optional_port(OPS_PORT),
        trusted_proxies=reader.networks(TRUSTED_PROXIES),
        approval_public_url=reader.public_url(APPROVAL_PUBLIC_URL, ("https", "http")),
        plain_limits=PlainLimits(
            in_progress=reader.integer(HTTP_REQUESTS_LIMIT),
            in_progress_per_address=reader.integer(HTTP_REQUESTS_LIMIT_PER_ADDRESS),
            stall_seconds=reader.seconds(HTTP_STALL_SECONDS),
        ),
        log_level=reader.choice(LOG_LEVEL),
        log_format=reader.choice(LOG_FORMAT),
    )
