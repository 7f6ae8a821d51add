"""Approval rules: bounded automatic approval of devices. Pure.

A rule approves what it covers and nothing else: there are no rules that deny. If several cover a
request, the first by name approves it, which only decides whose count it uses. All parts of a rule
have to match.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Annotated, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta

from services.approval.domain.records import VERSION_CHARACTERS
from shared.addresses.client import parse_address
from shared.protocol.connect import Role  # noqa: TC001 (msgspec reads it)
from shared.protocol.scopes import PAIRING, covers, first_uncovered

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from shared.settings.environment import Network

RULES_LIMIT: Final = 50
"""Max. rules, ended ones included."""
COUNT_LIMIT: Final = 10_000
"""Max. approvals by one rule."""
LIFE_LIMIT_MS: Final = 366 * 86_400_000
"""Max. time until a rule expires."""
NETWORKS_LIMIT: Final = 50
DEVICES_LIMIT: Final = 100
SCOPES_LIMIT: Final = 64
RULE_NAME_PATTERN: Final = r"^[a-z][a-z0-9-]{0,31}$"

_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,31}", re.ASCII)
_DEVICE: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_BY_RULE: Final = frozenset({"not-paired", "role-upgrade", "scope-upgrade"})
"""Reasons of requests that a rule may approve; never `metadata-upgrade`."""

RuleName = Annotated[
    str,
    Meta(
        pattern=RULE_NAME_PATTERN,
        max_length=32,
        description="1 to 32 of `a-z`, `0-9` and `-`, beginning with a letter.",
    ),
]
Uncovered = Literal[
    "expired", "role", "network", "device", "scopes", "admin", "changed-device", "revoked"
]
"""Which part of a rule does not match."""


class Rule(msgspec.Struct, frozen=True, omit_defaults=True):
    """A rule as it is stored. `id` is random: the count of a later rule of that name begins anew.

    `networks` (only for nodes) and `device_ids` say which devices; of two lists both must match.
    `scopes` are the most it approves.
    """

    id: str
    role: Role
    scopes: tuple[str, ...]
    expires_at_ms: int
    count: int
    created_at_ms: int
    created_by: str
    networks: tuple[str, ...] = ()
    device_ids: tuple[str, ...] = ()
    allow_admin: bool = False


class Claim(NamedTuple):
    """What a rule is asked to approve.

    `enables`: scopes that the device could use afterwards and cannot use now. `revoked`: a person
    revoked the token of this role, so only a person gives it back.
    """

    reason: str
    device_id: str
    address: str
    roles: tuple[str, ...]
    enables: tuple[str, ...]
    revoked: bool = False


class _Compiled(NamedTuple):
    name: str
    rule: Rule
    networks: tuple[Network, ...]
    device_ids: frozenset[str]


class Rules:
    """All rules by name, with the version of the stored value ("" for none)."""

    __slots__ = ("_compiled", "by_name", "version")

    def __init__(self, version: bytes | str = "", by_name: dict[str, Rule] | None = None) -> None:
        self.version: Final = version
        self.by_name: Final = by_name or {}
        self._compiled = [compiled(name, rule) for name, rule in sorted(self.by_name.items())]

    def __bool__(self) -> bool:
        return bool(self._compiled)

    def covering(
        self, claim: Claim, now_ms: int, without: Collection[str] = ()
    ) -> tuple[str, Rule] | None:
        """Return the first rule by name that covers the claim; `without` are ids of rules."""
        for one in self._compiled:
            if one.rule.id not in without and uncovered(one, claim, now_ms) is None:
                return one.name, one.rule
        return None

    def encoded(self) -> bytes:
        """Return the value to store, without its version."""
        return msgspec.msgpack.encode(self.by_name)


def compiled(name: str, rule: Rule) -> _Compiled:
    """Return a rule with its networks and ids in the form that is compared."""
    networks = tuple(map(ipaddress.ip_network, rule.networks))
    return _Compiled(name, rule, networks, frozenset(rule.device_ids))


def uncovered(one: _Compiled, claim: Claim, now_ms: int) -> Uncovered | None:
    """Return the first part of a rule that does not match, or None if it covers the claim."""
    rule = one.rule
    found: Uncovered | None = None
    if now_ms >= rule.expires_at_ms:
        found = "expired"
    elif claim.reason not in _BY_RULE:
        found = "changed-device"
    elif claim.revoked:
        found = "revoked"
    elif claim.roles != (rule.role,):
        found = "role"
    elif one.device_ids and claim.device_id not in one.device_ids:
        found = "device"
    elif one.networks and not _lies_in(claim.address, one.networks):
        found = "network"
    elif not rule.allow_admin and sensitive_scope(claim.enables):
        found = "admin"
    elif first_uncovered(rule.scopes, claim.enables, rule.role) is not None:
        found = "scopes"
    return found


def sensitive_scope(scopes: Iterable[str]) -> str | None:
    """Return the first scope with which a device could approve others, or None."""
    return next((one for one in scopes if covers((one.strip(),), PAIRING, "operator")), None)


def problems_of(name: str, rule: Rule, now_ms: int) -> list[str]:
    """Return everything that is wrong with a new rule."""
    problems = []
    if not _NAME.fullmatch(name):
        problems.append("name: 1 to 32 of a-z, 0-9 and -, beginning with a letter")
    if not rule.networks and not rule.device_ids:
        problems.append("give networks (for nodes) or device ids: a rule does not cover everybody")
    if rule.networks and rule.role != "node":
        problems.append("networks: only for the role node; give device ids for operators")
    problems += [problem for text in rule.networks if (problem := _network_problem(text))]
    if any(not _DEVICE.fullmatch(one) for one in rule.device_ids):
        problems.append("deviceIds: each is 64 hexadecimal digits in lower case")
    outside = next((one for one in rule.scopes if not _belongs(one, rule.role)), None)
    if outside is not None:
        problems.append(f"scopes: {outside!r} does not belong to the role {rule.role}")
    sensitive = sensitive_scope(rule.scopes) if rule.role == "operator" else None
    if sensitive and not rule.allow_admin:
        problems.append(f"scopes: {sensitive} lets devices approve others; say allowAdmin for it")
    if rule.allow_admin and not sensitive:
        problems.append("allowAdmin: no scope of the rule needs it")
    if not now_ms < rule.expires_at_ms <= now_ms + LIFE_LIMIT_MS:
        problems.append("expiresAtMs: must be in the future, within 366 days")
    if not 0 < rule.count <= COUNT_LIMIT:
        problems.append(f"count: from 1 to {COUNT_LIMIT}")
    return problems


def read_rules(value: bytes | None) -> Rules:
    """Decode the stored value; raises msgspec.MsgspecError, ValueError."""
    if value is None:
        return NO_RULES
    return Rules(value[:VERSION_CHARACTERS], _decode(value[VERSION_CHARACTERS:]))


def _lies_in(address: str, networks: Sequence[Network]) -> bool:
    parsed = parse_address(address)  # IPv4-mapped IPv6 counts as IPv4
    if parsed is None:
        return False
    client = ipaddress.ip_address(parsed.text)
    return any(client in network for network in networks)


def _network_problem(text: str) -> str:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return f"networks: {text[:64]!r} is not an address or CIDR range"
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped:
        return f"networks: write {text[:64]!r} as IPv4"
    if str(network) not in {text, f"{text}/{network.max_prefixlen}"}:
        return f"networks: {text[:64]!r} must be written {str(network)!r}"
    return ""


def _belongs(scope: str, role: str) -> bool:
    return scope == scope.strip() and scope.startswith(f"{role}.") and scope != f"{role}."


_decode: Final = msgspec.msgpack.Decoder(dict[str, Rule]).decode
NO_RULES: Final = Rules()
