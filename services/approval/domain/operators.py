"""Named operators and their tokens. Pure.

A token is `lko_<name>_<secret>`: the name says whose it is, for instance where a leaked one is
found. The secret has 256 random bits, so it cannot be guessed from its SHA-256, which is all that
is stored.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from services.approval.domain.permissions import Permission, PermissionName, permission_of
from services.approval.domain.records import VERSION_CHARACTERS, Milliseconds

OPERATORS_LIMIT: Final = 100
"""Max. named operators, expired ones included."""
SECRET_BYTES: Final = 32
"""Random bytes of a token."""
TOKEN_PREFIX: Final = "lko_"  # noqa: S105 (the beginning of every token)
OPERATOR_NAME_PATTERN: Final = r"^[a-z][a-z0-9-]{0,31}$"
_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,31}", re.ASCII)
_TOKEN: Final = re.compile(r"lko_([a-z][a-z0-9-]{0,31})_[A-Za-z0-9_-]{43}", re.ASCII)

OperatorName = Annotated[
    str,
    Meta(
        pattern=OPERATOR_NAME_PATTERN,
        max_length=32,
        description="1 to 32 of `a-z`, `0-9` and `-`, beginning with a letter.",
    ),
]
OperatorKind = Literal["admin", "token"]


class OperatorRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is stored of an operator. `id` is random: a later operator of that name has another."""

    id: str
    permission: PermissionName
    digest: bytes
    """SHA-256 of the token."""
    created_at_ms: Milliseconds
    created_by: str
    expires_at_ms: Milliseconds = 0
    """0: never."""

    def is_live(self, now_ms: int) -> bool:
        """Return whether the operator has not expired."""
        return not self.expires_at_ms or now_ms < self.expires_at_ms

    @property
    def held(self) -> Permission:
        """The operator's permission."""
        return permission_of(self.permission) or Permission.VIEW


class Operators:
    """All named operators by name, with the version of the stored value ("" for none)."""

    __slots__ = ("by_name", "version")

    def __init__(
        self, version: bytes | str = "", by_name: dict[str, OperatorRecord] | None = None
    ) -> None:
        self.version = version
        self.by_name: Final = by_name or {}

    def live(self, name: str, operator_id: str, now_ms: int) -> OperatorRecord | None:
        """Return the operator if it still exists under this id and has not expired."""
        found = self.by_name.get(name)
        if found is None or found.id != operator_id or not found.is_live(now_ms):
            return None
        return found

    def holder_of(self, token: str, now_ms: int) -> tuple[str, OperatorRecord] | None:
        """Return the name and record of the operator with this token, unless it has expired."""
        name = name_in(token)
        found = self.by_name.get(name) if name else None
        if found is None or not hmac.compare_digest(digest_of(token), found.digest):
            return None
        return (name, found) if found.is_live(now_ms) else None

    def encoded(self) -> bytes:
        """Return the value to store, without its version."""
        return msgspec.msgpack.encode(self.by_name)


def is_name(text: str) -> bool:
    """Return whether an operator may have this name."""
    return _NAME.fullmatch(text) is not None


def read_operators(value: bytes | None) -> Operators:
    """Decode the stored value; raises msgspec.MsgspecError, ValueError."""
    if value is None:
        return Operators()
    return Operators(value[:VERSION_CHARACTERS], _decode(value[VERSION_CHARACTERS:]))


def make_token(name: str, secret: str) -> str:
    """Return an operator's token; `secret` is URL-safe base64 of SECRET_BYTES random bytes."""
    return f"{TOKEN_PREFIX}{name}_{secret}"


def name_in(token: str) -> str:
    """Return the name in an operator's token; empty for anything else."""
    found = _TOKEN.fullmatch(token)
    return found[1] if found else ""


def digest_of(token: str) -> bytes:
    """Return what is stored of a token."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()


_decode: Final = msgspec.msgpack.Decoder(dict[str, OperatorRecord]).decode
