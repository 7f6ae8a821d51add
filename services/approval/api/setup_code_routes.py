"""Operations on setup codes: `/v1/setup-codes`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import UNSET

from services.approval.schemas.setup_codes import (
    CreatedSetupCode,
    RevokedSetupCode,
    RevokedSetupCodes,
    SetupCodeList,
    SetupCodeObject,
    setup_code_object,
)
from services.approval.setup_codes.qr import png_data_url

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    import msgspec

    from services.approval.api.calls import Call
    from services.approval.schemas.setup_codes import NewSetupCode
    from services.approval.setup_codes.service import SetupCodeService


class SetupCodeRoutes:
    """Implements the operations on setup codes."""

    def __init__(self, setup_codes: SetupCodeService, now_ms: Callable[[], int]) -> None:
        self._setup_codes = setup_codes
        self._now_ms = now_ms
        self.by_id: Final[Mapping[str, Callable[[Call], Awaitable[msgspec.Struct]]]] = {
            "listSetupCodes": self._list,
            "createSetupCode": self._create,
            "getSetupCode": self._get,
            "revokeSetupCode": self._revoke,
            "revokeSetupCodes": self._revoke_all,
        }

    async def _list(self, call: Call) -> SetupCodeList:
        now_ms = self._now_ms()
        found = await self._setup_codes.live(call.caller)
        return SetupCodeList([setup_code_object(one, now_ms) for one in found])

    async def _create(self, call: Call) -> CreatedSetupCode:
        body: NewSetupCode = call.body
        made = await self._setup_codes.create(
            call.caller,
            profile=body.profile,
            public_url="" if body.gateway_url is UNSET else body.gateway_url,
            with_join_url=body.join_url,
        )
        return CreatedSetupCode(
            made.text,
            setup_code_object(made.code, self._now_ms()),
            png_data_url(made.text) or UNSET,
            made.join_url or UNSET,
        )

    async def _get(self, call: Call) -> SetupCodeObject:
        code = await self._setup_codes.read(call.caller, call.ids.setup_id)
        return setup_code_object(code, self._now_ms())

    async def _revoke(self, call: Call) -> RevokedSetupCode:
        code = await self._setup_codes.revoke(call.caller, call.ids.setup_id)
        return RevokedSetupCode(setup_code_object(code, self._now_ms()))

    async def _revoke_all(self, call: Call) -> RevokedSetupCodes:
        now_ms = self._now_ms()
        found = await self._setup_codes.revoke_all(call.caller)
        return RevokedSetupCodes([setup_code_object(one, now_ms) for one in found])
