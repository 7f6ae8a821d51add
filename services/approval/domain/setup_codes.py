"""Setup codes: what is stored of them, what they grant and to which clients. Pure.

A code is a bearer secret. Its token is derived from a random short code, and only the token's hash
is stored, so a copy of Redis opens nothing.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import msgspec

from services.approval.domain.records import VERSION_CHARACTERS
from shared.protocol.scopes import covers_all, union
from shared.protocol.signing import encode_base64
from shared.setup_tokens import digest_of, setup_id_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.rpc.messages import AuthorizeDevice, ClientInfo

LIFETIME_MS: Final = 600_000
"""How long a code can be used."""
KEPT_MS: Final = 1_200_000
"""How long the outcome of a code is kept after its use, revocation or expiry."""
LIVE_LIMIT_CODES: Final = 500
"""Max. live codes, of all operators together."""
LIVE_LIMIT_CODES_PER_CREATOR: Final = 50
"""Max. live codes of one operator or device."""
SHORT_CODE_BYTES: Final = 16
BOUND_LIMIT_CODES: Final = 8
"""Max. codes remembered with a request; rejecting it revokes them."""

ProfileName = Literal["full", "limited", "node", "voice-node"]
AccessName = Literal["full", "limited", "node"]

FULL: Final = "full"
LIMITED: Final = "limited"
NODE: Final = "node"
VOICE_NODE: Final = "voice-node"
ACCESS: Final[tuple[AccessName, ...]] = ("node", "limited", "full")
"""Labels of access, from the narrowest to the widest."""


class Profile(NamedTuple):
    """What a code grants: roles, and scopes of the operator role."""

    access: AccessName
    roles: tuple[str, ...]
    scopes: tuple[str, ...]


_LIMITED_SCOPES: Final = (
    "operator.approvals",
    "operator.questions",
    "operator.read",
    "operator.talk.secrets",
    "operator.write",
)
_BOTH: Final = ("node", "operator")
PROFILES: Final[Mapping[str, Profile]] = {
    FULL: Profile("full", _BOTH, tuple(sorted(("operator.admin", *_LIMITED_SCOPES)))),
    LIMITED: Profile("limited", _BOTH, _LIMITED_SCOPES),
    VOICE_NODE: Profile("limited", _BOTH, ("operator.read", "operator.talk")),
    NODE: Profile("node", ("node",), ()),
}

_BROWSERS: Final = frozenset({"webchat-ui", "openclaw-control-ui", "webchat"})


class Leg(msgspec.Struct, frozen=True, array_like=True):
    """A role with scopes that a device asks for, or was admitted with, by means of a code."""

    role: str
    scopes: tuple[str, ...]


class SetupCode(msgspec.Struct, frozen=True, omit_defaults=True):
    """One code. `digest` is the hash of its token; `created_by` as in the audit log.

    It is bound to the first device that presents it. `staged` is the leg that waits for approval;
    until it is served, no other leg is accepted. `confirmed`: hello-ok was sent.
    """

    setup_id: str
    digest: str
    profile: str
    url: str
    created_by: str
    created_at_ms: int
    expires_at_ms: int
    downgraded: bool = False
    has_join_url: bool = False
    joined_by: str = ""
    """The call that fetched the join URL, which works once."""
    device_id: str = ""
    public_key: str = ""
    device_name: str = ""
    staged: Leg | None = None
    served: tuple[Leg, ...] = ()
    used_at_ms: int = 0
    used_by: str = ""
    """The connection that used the code up; its question may be asked again."""
    revoked_at_ms: int = 0
    confirmed: bool = False

    @property
    def grants(self) -> Profile:
        """What the code grants; nothing if a newer release has stored another profile."""
        return PROFILES.get(self.profile) or Profile("node", (), ())

    def is_live(self, now_ms: int) -> bool:
        """Return whether the code can still be used."""
        return not self.used_at_ms and not self.revoked_at_ms and now_ms < self.expires_at_ms

    @property
    def is_complete(self) -> bool:
        """Whether all that the code grants was served."""
        roles = {leg.role for leg in self.served}
        scopes = union(*(leg.scopes for leg in self.served if leg.role == "operator"))
        grants = self.grants
        return roles.issuperset(grants.roles) and covers_all(scopes, grants.scopes, "operator")


class VersionedCode(NamedTuple):
    """A stored code with the version that was read; empty and None if there is none."""

    version: str
    code: SetupCode | None


NO_CODE: Final = VersionedCode("", None)

encode_code: Final = msgspec.msgpack.Encoder().encode
"""Encode a code for the store."""
_decode: Final = msgspec.msgpack.Decoder(SetupCode).decode


def read_code(value: bytes | None) -> VersionedCode:
    """Decode a stored code; raises msgspec.MsgspecError or ValueError."""
    if value is None:
        return NO_CODE
    version = value[:VERSION_CHARACTERS].decode()
    return VersionedCode(version, _decode(value[VERSION_CHARACTERS:]))


def token_of(short_code: bytes) -> str:
    """Return the bootstrap token of a short code: 43 characters of base64url."""
    return encode_base64(hmac.digest(short_code, b"setup-token", hashlib.sha256))


def read_short_code(text: str) -> bytes | None:
    """Return the bytes of a short code in a join URL, or None if it is not one."""
    try:
        found = base64.b64decode(text + "==", altchars=b"-_", validate=True)
    except ValueError:
        return None
    return found if len(found) == SHORT_CODE_BYTES and encode_base64(found) == text else None


def payload_of(url: str, token: str, expires_at_ms: int) -> bytes:
    """Return the JSON that a setup code consists of."""
    found = {"url": url, "bootstrapToken": token, "expiresAtMs": expires_at_ms}
    return json.dumps(found, separators=(",", ":"), ensure_ascii=False).encode()


def setup_code_of(url: str, token: str, expires_at_ms: int) -> str:
    """Return the setup code: the text that a QR code contains and that people paste."""
    return encode_base64(payload_of(url, token, expires_at_ms))


def new_code(
    short_code: bytes,
    profile: str,
    url: str,
    *,
    created_by: str,
    now_ms: int,
    downgraded: bool = False,
    has_join_url: bool = False,
) -> SetupCode:
    """Return the record of a new code."""
    digest = digest_of(token_of(short_code))
    return SetupCode(
        setup_id=setup_id_of(digest),
        digest=digest,
        profile=profile,
        url=url,
        created_by=created_by,
        created_at_ms=now_ms,
        expires_at_ms=now_ms + LIFETIME_MS,
        downgraded=downgraded,
        has_join_url=has_join_url,
    )


def capped(profile: str, cap: str, *, is_private: bool) -> tuple[str, bool]:
    """Return the profile to issue, and whether it grants less than was asked for.

    `cap` is the most access that a code may grant here. Plain `ws://` on a local network permits
    limited access: others on that network could read the code.
    """
    most = ACCESS.index(cap if cap in ACCESS else NODE)
    if is_private:
        most = min(most, ACCESS.index("limited"))
    if ACCESS.index(PROFILES[profile].access) <= most:
        return profile, False
    return ACCESS[most], True


def matches(profile: str, client: ClientInfo) -> bool:
    """Return whether a client is of the kind that this profile admits without approval.

    Clients describe themselves, so this prevents mistakes, not attacks.
    """
    if client.mode != "node" or client.id in _BROWSERS:
        return False
    platform, family = _normal(client.platform), _normal(client.device_family)
    if profile == NODE:
        return client.id == "node-host"
    if profile == VOICE_NODE:
        return client.id == "node-host" and family == "esp32" and _is_or(platform, "esp32")
    if client.id == "openclaw-android":
        return family == "android" and _is_or(platform, "android")
    if client.id == "openclaw-ios":
        of_apple = _is_or(platform, "ios") or _is_or(platform, "ipados")
        return of_apple and family in {"iphone", "ipad", "ios"}
    return False


def _normal(text: str) -> str:
    """Return a platform or family as it is signed: trimmed, with ASCII letters in lower case."""
    return text.strip().translate(_LOWER)


_LOWER: Final = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def _is_or(platform: str, word: str) -> bool:
    """Return whether a platform is this word, or begins with it as a whole word."""
    return platform == word or platform.startswith(f"{word} ")


def refusal_of(code: SetupCode | None, question: AuthorizeDevice, now_ms: int) -> str:
    """Return why a code does not admit a device; empty if it does. Clients never learn which.

    Nothing changes by a refusal: a wrong role does not bind a code.
    """
    if code is None or code.digest != question.setup_digest:
        return "unknown"
    other_device = code.device_id != question.device_id or code.public_key != question.public_key
    reasons = {
        "used": code.used_at_ms != 0,
        "revoked": code.revoked_at_ms != 0,
        "expired": now_ms >= code.expires_at_ms,
        "role-or-scope": not _is_within(code, question),
        "other-device": code.device_id != "" and other_device,
        "other-leg": code.staged is not None and code.staged != leg_of(question),
    }
    return next((reason for reason, applies in reasons.items() if applies), "")


def leg_of(question: AuthorizeDevice) -> Leg:
    """Return the role and scopes that a device asks for."""
    return Leg(question.role, tuple(sorted(set(question.scopes))))


def _is_within(code: SetupCode, question: AuthorizeDevice) -> bool:
    grants = code.grants
    if question.role not in grants.roles:
        return False
    if question.role == "node":
        return not question.scopes
    return covers_all(grants.scopes, question.scopes, question.role)
