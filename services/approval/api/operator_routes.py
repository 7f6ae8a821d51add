"""Operations on named operators: `/v1/operators`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import UNSET

from services.approval.domain.authorization import ADMIN_OPERATOR
from services.approval.domain.permissions import Permission, permission_of
from services.approval.problems import BUILT_IN, ProblemError
from services.approval.schemas.operators import (
    CreatedOperator,
    OperatorList,
    RevokedOperator,
    operator_list,
    operator_object,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    import msgspec

    from services.approval.api.calls import Call
    from services.approval.operators.operators import OperatorService
    from services.approval.schemas.operators import NewOperator


class OperatorRoutes:
    """Implements the operations on operators."""

    def __init__(self, operators: OperatorService, now_ms: Callable[[], int]) -> None:
        self._operators = operators
        self._now_ms = now_ms
        self.by_id: Final[Mapping[str, Callable[[Call], Awaitable[msgspec.Struct]]]] = {
            "listOperators": self._list,
            "createOperator": self._create,
            "revokeOperator": self._revoke,
        }

    async def _list(self, call: Call) -> OperatorList:
        return operator_list(await self._operators.list(call.caller), self._now_ms())

    async def _create(self, call: Call) -> CreatedOperator:
        body: NewOperator = call.body
        if body.name == ADMIN_OPERATOR:
            raise ProblemError(BUILT_IN, "Choose another name.")
        record, token = await self._operators.create(
            call.caller,
            body.name,
            permission_of(body.permission) or Permission.VIEW,
            0 if body.expires_at_ms is UNSET else body.expires_at_ms,
        )
        return CreatedOperator(operator_object(body.name, record, self._now_ms()), token)

    async def _revoke(self, call: Call) -> RevokedOperator:
        name = call.ids.operator_name
        if name == ADMIN_OPERATOR:
            raise ProblemError(
                BUILT_IN, "Change APPROVAL_ADMIN_TOKEN and restart approval to revoke its token."
            )
        record = await self._operators.revoke(call.caller, name)
        return RevokedOperator(operator_object(name, record, self._now_ms()))
