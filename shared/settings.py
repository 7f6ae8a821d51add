"""Settings from the environment: all problems are collected and reported in one message."""

from __future__ import annotations

import hmac
import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from shared.redis_url import redis_url_problems

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

SECRET_LEAST_CHARACTERS: Final = 32
PORT_MOST: Final = 65_535
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

    def text(self, name: str, default: str = "") -> str:
        """Return a setting unchanged; an empty value counts as not set.

        A bare scheme, alone or in a comma list, counts as not set too and causes a warning.
        """
        given = self._environ.get(name, "").strip()
        if not _is_text(given):
            self._note_once(f"{name}: must be text in UTF-8")
            return default
        parts = given.split(",")
        bare = [part.strip() for part in parts if is_bare_scheme(part)]
        if bare:
            self._warn_once(
                f"{name}: {bare[0]} has no host after it and counts as not set; "
                "is a variable in it empty?"
            )
            given = ",".join(part for part in parts if not is_bare_scheme(part)).strip()
        return given or default

    def _note_once(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)

    def _warn_once(self, warning: str) -> None:
        if warning not in self.warnings:
            self.warnings.append(warning)

    def secrets(
        self, name: str, *, least: int = SECRET_LEAST_CHARACTERS, advised: int | None = None
    ) -> Secrets:
        """Return a required comma list of secrets, each of at least `least` characters."""
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

    def integer(self, name: str, default: int, *, least: int, most: int) -> int:
        """Return a whole number within the limits."""
        return int(self._number(name, default, (least, most), int, "a whole number"))

    def seconds(self, name: str, default: float, *, least: float, most: float) -> float:
        """Return a duration in seconds within the limits."""
        return self._number(name, default, (least, most), float, "a number of seconds")

    def _number(
        self,
        name: str,
        default: float,
        bounds: tuple[float, float],
        convert: Callable[[str], float],
        kind: str,
    ) -> float:
        least, most = bounds
        given = self.text(name)
        if not given:
            return default
        try:
            value = convert(given)
        except ValueError:
            value = None
        if value is None or not least <= value <= most:
            self.problems.append(f"{name}={shown(given)}: must be {kind} from {least} to {most}")
            return default
        return value

    def port(self, name: str, default: int) -> int:
        """Return a TCP port; 0 lets the system choose."""
        return self.integer(name, default, least=0, most=PORT_MOST)

    def choice(self, name: str, default: str, allowed: Sequence[str]) -> str:
        """Return one of the allowed words."""
        value = self.text(name, default)
        if value not in allowed:
            self.problems.append(f"{name}={shown(value)}: must be one of {', '.join(allowed)}")
            return default
        return value

    def hosts(self, name: str, default: str) -> tuple[str, ...]:
        """Return a comma list of addresses to listen on."""
        hosts = tuple(h for part in self.text(name, default).split(",") if (h := part.strip()))
        if not hosts:
            self.problems.append(f"{name}: must name at least one address to listen on")
        return hosts

    def redis_url(self, name: str) -> str:
        """Return the required URL of a Redis server."""
        value = self.text(name)
        if value:
            self.problems.extend(f"{name}: {problem}" for problem in redis_url_problems(value))
        elif not any(problem.startswith(f"{name}:") for problem in self.problems):
            given = self._environ.get(name, "").strip()
            how = f"{shown(given)} has no host after it" if given else "is not set"
            self.problems.append(f"{name} {how}: give a redis:// address")
        return value

    def url(self, name: str, schemes: Sequence[str]) -> str:
        """Return an absolute URL with one of the schemes, or an empty string."""
        value = self.text(name)
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

    def public_url(self, name: str, schemes: Sequence[str]) -> str:
        """Return an address that is shown to people and therefore must not contain secrets."""
        value = self.url(name, schemes)
        if any(mark in value for mark in "@?#{}") or not value.isprintable():
            self.problems.append(
                f"{name}: must not contain user, password, query, fragment or braces"
            )
        return value.rstrip("/")

    def networks(self, name: str) -> tuple[Network, ...]:
        """Return a comma list of CIDR ranges or single addresses."""
        found: list[Network] = []
        for part in self.text(name).split(","):
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
    log_level: str
    log_format: str


def read_common(reader: SettingsReader, *, default_port: int) -> CommonSettings:
    """Read the settings common to both services."""
    return CommonSettings(
        redis_url=reader.redis_url("REDIS_URL"),
        bus_secrets=reader.secrets("BUS_SECRET"),
        hosts=reader.hosts("HOST", "127.0.0.1,::1"),
        port=reader.port("PORT", default_port),
        ops_port=reader.port("OPS_PORT", 0) if reader.text("OPS_PORT") else None,
        trusted_proxies=reader.networks("TRUSTED_PROXIES"),
        approval_public_url=reader.public_url("APPROVAL_PUBLIC_URL", ("https", "http")),
        log_level=reader.choice("LOG_LEVEL", "info", ("debug", "info", "warning", "error")),
        log_format=reader.choice("LOG_FORMAT", "auto", ("auto", "console", "json")),
    )
