"""Socket methods about setup codes, and calls that a gateway makes on its own behalf."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import UNSET, UnsetType

from services.approval.domain.errors import NotAllowed, UnknownSetupCode
from services.approval.domain.setup_codes import FULL, NODE
from services.approval.setup_codes.qr import png_data_url
from services.approval.setup_codes.service import Completion, completion_of
from shared.protocol.methods import SETUP_CODE, SETUP_STATUS
from shared.rpc.messages import SETUP_DELIVERED, SETUP_JOIN

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from services.approval.domain.authorization import Caller
    from services.approval.domain.setup_codes import AccessName
    from services.approval.setup_codes.service import SetupCodeService
    from shared.rpc.messages import Call


class SetupCodeResult(
    msgspec.Struct, rename="camel", omit_defaults=True, frozen=True, kw_only=True
):
    """Result of `device.pair.setupCode`. `auth` is a label: the shared secret is a token."""

    setup_id: str
    expires_at_ms: int
    setup_code: str
    join_url: str | UnsetType = UNSET
    qr_data_url: str | UnsetType = UNSET
    gateway_url: str
    auth: str
    url_source: str
    access: AccessName
    access_downgraded: bool = False


class SetupStatus(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True):
    """Result of `device.pair.setupStatus`; empty unless the code was used."""

    completion: Completion | UnsetType = UNSET
    delivery_uncertain: Completion | UnsetType = UNSET


class JoinResult(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True):
    """What a join URL returns; or for how many ms the address is locked out."""

    payload: msgspec.Raw | UnsetType = UNSET
    locked_ms: int = 0


class SetupMethods:
    """Creates setup codes and tells their outcome, in the formats of OpenClaw's protocol."""

    def __init__(self, setup_codes: SetupCodeService) -> None:
        self._setup_codes = setup_codes
        self.by_name: Final[Mapping[str, Callable[[Caller, Call], Awaitable[object]]]] = {
            SETUP_CODE: self._create,
            SETUP_STATUS: self._status,
            SETUP_JOIN: self._join,
            SETUP_DELIVERED: self._delivered,
        }

    async def _create(self, caller: Caller, call: Call) -> SetupCodeResult:
        params = call.params
        with_join_url = params.get("joinUrl") is True
        created = await self._setup_codes.create(
            caller,
            profile=params.get("bootstrapProfile", NODE if with_join_url else FULL),
            public_url=params.get("publicUrl", ""),
            with_join_url=with_join_url,
        )
        code = created.code
        qr_data_url = png_data_url(created.text) if params.get("includeQr", True) else ""
        return SetupCodeResult(
            setup_id=code.setup_id,
            expires_at_ms=code.expires_at_ms,
            setup_code=created.text,
            join_url=created.join_url or UNSET,
            qr_data_url=qr_data_url or UNSET,
            gateway_url=code.url,
            auth="token",
            url_source=created.url_source,
            access=code.grants.access,
            access_downgraded=code.downgraded,
        )

    async def _status(self, caller: Caller, call: Call) -> SetupStatus:
        try:
            code = await self._setup_codes.read(caller, call.params["setupId"])
        except UnknownSetupCode:
            return SetupStatus()
        if not code.used_at_ms:
            return SetupStatus()
        completion = completion_of(code)
        return SetupStatus(completion) if code.confirmed else SetupStatus(UNSET, completion)

    async def _join(self, caller: Caller, call: Call) -> JoinResult:
        """Use up a join URL; for gateways."""
        if caller.kind != "gateway":
            raise NotAllowed
        params = call.params
        joined = await self._setup_codes.join(caller, params["code"], params.get("address", ""))
        payload = UNSET if joined.payload is None else msgspec.Raw(joined.payload)
        return JoinResult(payload, joined.locked_ms)

    async def _delivered(self, caller: Caller, call: Call) -> object:
        """Take a gateway's report on whether it sent hello-ok."""
        if caller.kind != "gateway":
            raise NotAllowed
        delivered = call.params.get("delivered") is True
        await self._setup_codes.report_delivery(call.params["setupId"], delivered=delivered)
        return {}
