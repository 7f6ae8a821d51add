"""Operations on approval rules: `/v1/rules` and `/v1/rule-trials`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.approval.rules.rules import ListedRule
from services.approval.schemas.rules import (
    AddedRule,
    RemovedRule,
    RuleList,
    RuleTrial,
    rule_object,
    rule_of,
    trial_object,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    import msgspec

    from services.approval.api.calls import Call
    from services.approval.rules.rules import RuleService
    from services.approval.schemas.rules import NewRule


class RuleRoutes:
    """Implements the operations on rules."""

    def __init__(self, rules: RuleService, now_ms: Callable[[], int]) -> None:
        self._rules = rules
        self._now_ms = now_ms
        self.by_id: Final[Mapping[str, Callable[[Call], Awaitable[msgspec.Struct]]]] = {
            "listRules": self._list,
            "addRule": self._add,
            "removeRule": self._remove,
            "tryRule": self._try_out,
        }

    async def _list(self, call: Call) -> RuleList:
        now_ms = self._now_ms()
        return RuleList([rule_object(one, now_ms) for one in await self._rules.all(call.caller)])

    async def _add(self, call: Call) -> AddedRule:
        body: NewRule = call.body
        rule = self._rules.make(call.caller, body.name, rule_of(body))
        added = await self._rules.add(call.caller, body.name, rule)
        return AddedRule(rule_object(ListedRule(body.name, added, 0), self._now_ms()))

    async def _remove(self, call: Call) -> RemovedRule:
        removed = await self._rules.remove(call.caller, call.ids.rule_name)
        return RemovedRule(rule_object(removed, self._now_ms()))

    async def _try_out(self, call: Call) -> RuleTrial:
        body: NewRule = call.body
        rule = self._rules.make(call.caller, body.name, rule_of(body))
        return trial_object(await self._rules.try_out(call.caller, body.name, rule))
