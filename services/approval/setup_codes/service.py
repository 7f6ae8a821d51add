"""Creates, lists and revokes setup codes; for operators, and for sockets with operator.admin."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from services.approval.domain import authorization
from services.approval.domain.errors import (
    JoinNeedsNode,
    MissingScope,
    NoGatewayUrl,
    StoreUnavailable,
    TooManySetupCodes,
    UnknownSetupCode,
)
from services.approval.domain.permissions import Permission
from services.approval.domain.setup_codes import (
    LIVE_LIMIT_CODES_PER_CREATOR,
    NO_CODE,
    NODE,
    SHORT_CODE_BYTES,
    SetupCode,
    capped,
    new_code,
    payload_of,
    read_short_code,
    setup_code_of,
    token_of,
)
from services.approval.domain.setup_urls import gateway_url
from services.approval.storage.changes.transaction import Transaction
from services.approval.storage.setup_codes import (
    CREATED,
    DELIVERED,
    UNCERTAIN,
    actor_of,
    add_revocation,
    change_of,
    limit_codes,
    put_code,
)
from shared.addresses.client import limit_key
from shared.protocol.scopes import ADMIN
from shared.protocol.signing import encode_base64
from shared.rpc.messages import DEVICE_JOIN
from shared.setup_tokens import digest_of, setup_id_of

if TYPE_CHECKING:
    from services.approval.domain.authorization import Caller
    from services.approval.domain.tokens import TokenKeys
    from services.approval.registry.queries import Queries
    from services.approval.storage.changes.transaction_log import TransactionLog
    from services.approval.storage.store import Store
    from shared.secret_digests import SecretDigests

TRIES_LIMIT: Final = 32
"""Max. attempts at a commit that conflicts with others."""
SOURCE_REQUEST: Final = "request.publicUrl"
SOURCE_SETTING: Final = "GATEWAY_PUBLIC_URL"
"""Where the gateway's address in a code comes from."""


class Completion(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True, kw_only=True):
    """Which device a code admitted: the result of setupStatus, and the payload of its event."""

    setup_id: str
    device_id: str
    device_name: str = ""
    access: str
    ts: int


@dataclass(frozen=True, slots=True)
class CreatedCode:
    """A new code with its secrets, which are not stored and shown only once."""

    code: SetupCode
    text: str
    """The setup code that is scanned or pasted."""
    join_url: str
    url_source: str


@dataclass(frozen=True, slots=True)
class Joined:
    """What a join URL returns; `locked_ms`: for how long the address is locked out."""

    payload: bytes | None
    locked_ms: int = 0


class SetupCodeService:
    """Setup codes. Every method may raise RegistryError."""

    def __init__(
        self,
        store: Store,
        ledger: TransactionLog,
        registry: Queries,
        keys: TokenKeys,
        digests: SecretDigests,
        *,
        gateway_url: str,
        access: str,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._registry = registry
        self._keys = keys
        self._digests = digests
        self._gateway_url = gateway_url
        self._access = access

    async def create(
        self, caller: Caller, *, profile: str, public_url: str = "", with_join_url: bool = False
    ) -> CreatedCode:
        """Create a code for a profile, at most with the configured access.

        A call from a socket draws the same code at each of its attempts, so a retry at another
        replica returns the first one.
        """
        await self._require(caller)
        if with_join_url and profile != NODE:
            raise JoinNeedsNode
        source = SOURCE_REQUEST if public_url else SOURCE_SETTING
        if not (public_url or self._gateway_url):
            raise NoGatewayUrl
        where = gateway_url(public_url or self._gateway_url, source)
        issued, downgraded = capped(profile, self._access, is_private=where.is_private)
        short_code = self._draw(caller.call_id)
        join_url = where.join_url(encode_base64(short_code)) if with_join_url else ""
        await self._store.setup_codes.prune(caller.name)
        now_ms = self._store.now_ms()
        code = new_code(
            short_code,
            issued,
            where.url,
            created_by=caller.name,
            now_ms=now_ms,
            downgraded=downgraded,
            has_join_url=with_join_url,
        )
        entry = Transaction(caller.name, now_ms, call_id=caller.call_id)
        plan = entry.plan
        limit_codes(plan, code)
        put_code(plan, NO_CODE, code, now_ms)
        plan.change(*change_of(CREATED, code, caller.name, now_ms, label=where.host))
        code = await self._commit(entry, caller, code)
        text = setup_code_of(code.url, token_of(short_code), code.expires_at_ms)
        return CreatedCode(code, text, join_url, source)

    async def live(self, caller: Caller) -> list[SetupCode]:
        """Return the live codes, newest first."""
        await self._require(caller, Permission.VIEW)
        return [held.code for held in await self._store.setup_codes.live() if held.code]

    async def read(self, caller: Caller, setup_id: str) -> SetupCode:
        """Return one code, for as long as its outcome is kept; raises UnknownSetupCode."""
        await self._require(caller, Permission.VIEW)
        code = (await self._store.setup_codes.one(setup_id)).code
        if code is None:
            raise UnknownSetupCode
        return code

    async def revoke(self, caller: Caller, setup_id: str) -> SetupCode:
        """Revoke a live code at every replica (idempotent); raises UnknownSetupCode."""
        await self._require(caller)
        for _ in range(TRIES_LIMIT):
            held = await self._store.setup_codes.one(setup_id)
            now_ms = self._store.now_ms()
            if held.code is not None and held.code.revoked_at_ms:
                return held.code
            if held.code is None or not held.code.is_live(now_ms):
                raise UnknownSetupCode
            entry = Transaction(caller.name, now_ms)
            revoked = add_revocation(entry, held, caller.name)
            if (await self._ledger.commit(entry)).outcome == "done":
                return revoked
        raise StoreUnavailable(_KEPT_CHANGING)

    async def revoke_all(self, caller: Caller) -> list[SetupCode]:
        """Revoke all live codes in one commit; return them."""
        await self._require(caller)
        for _ in range(TRIES_LIMIT):
            found = await self._store.setup_codes.live()
            if not found:
                return []
            entry = Transaction(caller.name, self._store.now_ms())
            revoked = [add_revocation(entry, held, caller.name) for held in found if held.code]
            if (await self._ledger.commit(entry)).outcome == "done":
                return revoked
        raise StoreUnavailable(_KEPT_CHANGING)

    async def join(self, caller: Caller, text: str, address: str) -> Joined:
        """Use a join URL up and return the code's payload, if there is one.

        This neither uses nor binds the code itself. A retry of the call gets it again. Ten distinct
        wrong values lock the address out.
        """
        limited = limit_key(address)
        _head, _held, guards = await self._store.snapshot([], [limited])
        locked_ms = guards[limited].locked_ms([DEVICE_JOIN], self._store.now_ms())
        if locked_ms:
            return Joined(None, locked_ms)
        payload = await self._join(caller, text)
        if payload is not None:
            return Joined(payload)
        wrong = {DEVICE_JOIN: [self._digests.of(text)]}
        if self._store.lockouts.knows(limited, wrong):
            return Joined(None)
        deadline_ms = caller.not_after_ms
        return Joined(
            None, await self._store.lockouts.count(limited, wrong, not_after_ms=deadline_ms)
        )

    async def _join(self, caller: Caller, text: str) -> bytes | None:
        short_code = read_short_code(text)
        if short_code is None:
            return None
        token = token_of(short_code)
        setup_id = setup_id_of(digest_of(token))
        for _ in range(TRIES_LIMIT):
            held = await self._store.setup_codes.one(setup_id)
            code, now_ms = held.code, self._store.now_ms()
            if code is None or code.digest != digest_of(token) or not code.has_join_url:
                return None
            payload = payload_of(code.url, token, code.expires_at_ms)
            if code.joined_by:
                return payload if code.joined_by == caller.call_id else None
            if not code.is_live(now_ms):
                return None
            entry = Transaction(caller.name, now_ms)
            deadline_ms = caller.not_after_ms or code.expires_at_ms
            entry.plan.not_after_ms = min(deadline_ms, code.expires_at_ms)
            put_code(entry.plan, held, replace(code, joined_by=caller.call_id), now_ms)
            if (await self._ledger.commit(entry)).outcome == "done":
                return payload
        raise StoreUnavailable(_KEPT_CHANGING)

    async def report_delivery(self, setup_id: str, *, delivered: bool) -> None:
        """Record, and announce, whether the device got hello-ok after its code was used up."""
        for _ in range(TRIES_LIMIT):
            held = await self._store.setup_codes.one(setup_id)
            code, now_ms = held.code, self._store.now_ms()
            if code is None or not code.used_at_ms or code.confirmed:
                return
            entry = Transaction(actor_of(setup_id), now_ms)
            put_code(entry.plan, held, replace(code, confirmed=delivered), now_ms)
            kind = DELIVERED if delivered else UNCERTAIN
            payload = msgspec.json.encode(completion_of(code))
            entry.plan.note(*change_of(kind, code, actor_of(setup_id), now_ms, request=payload))
            if (await self._ledger.commit(entry)).outcome == "done":
                return
        raise StoreUnavailable(_KEPT_CHANGING)

    async def _require(self, caller: Caller, permission: Permission = Permission.DECIDE) -> None:
        caller = await self._registry.narrowed(caller)
        if not caller.is_admin:
            raise MissingScope(ADMIN)
        authorization.require_permission(caller, permission)

    def _draw(self, call_id: str) -> bytes:
        """Return a short code: a random one, or for a call the same at each of its attempts."""
        if not call_id:
            return secrets.token_bytes(SHORT_CODE_BYTES)
        derived = self._keys.derive("", "setup-code", call_id)
        return hashlib.sha256(derived.encode()).digest()[:SHORT_CODE_BYTES]

    async def _commit(self, entry: Transaction, caller: Caller, code: SetupCode) -> SetupCode:
        """Commit a new code; return it, or what an earlier attempt of the call stored."""
        committed = await self._ledger.commit_call(entry, caller, code.setup_id)
        if committed is None:
            live = [held.code for held in await self._store.setup_codes.live() if held.code]
            own = sum(one.created_by == code.created_by for one in live)
            raise TooManySetupCodes(of_creator=own >= LIVE_LIMIT_CODES_PER_CREATOR)
        if not caller.call_id:
            return code
        stored = (await self._store.setup_codes.one(committed)).code
        if stored is None or committed != code.setup_id:
            message = "an earlier attempt of this call has created another code"
            raise StoreUnavailable(message)
        return stored


def completion_of(code: SetupCode) -> Completion:
    """Return which device a code admitted."""
    return Completion(
        setup_id=code.setup_id,
        device_id=code.device_id,
        device_name=code.device_name,
        access=code.grants.access,
        ts=code.used_at_ms,
    )


_KEPT_CHANGING: Final = "the setup code could not be changed: it kept changing concurrently"
