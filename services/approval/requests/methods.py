"""Socket methods served by approval, mapped to calls of the registry."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
import structlog

from services.approval import log_events
from services.approval.domain.authorization import Caller
from services.approval.domain.errors import RegistryError, StoreUnavailable, UnknownDevice
from services.approval.requests import serializers
from services.approval.requests.errors import failed
from services.approval.requests.setup_methods import SetupMethods
from services.approval.schemas.devices import Approved, Rejected, Removed, Renamed, revoked_object
from shared.protocol.methods import SETUP_CODE
from shared.protocol.scopes import ADMIN
from shared.rpc.messages import Error, Position, Result, encode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from services.approval.domain.authorization import Kind
    from services.approval.domain.tokens import TokenKeys
    from services.approval.metrics import Metrics
    from services.approval.registry.registry import Registry
    from services.approval.setup_codes.service import SetupCodeService
    from services.approval.storage.store import Store
    from shared.rpc.messages import Call
    from shared.rpc.responder import Reply

PACKED_FROM_BYTES: Final = 65_536
"""Results above this size are compressed, so a long device list fits into one message."""

_CHANGING: Final = frozenset(
    {
        "device.pair.approve",
        "device.pair.reject",
        "device.pair.remove",
        "device.pair.rename",
        "device.token.rotate",
        "device.token.revoke",
        "node.pair.remove",
        SETUP_CODE,
    }
)
_encode_json: Final = msgspec.json.Encoder().encode


class Methods:
    """Answers method calls from sockets, and from gateways on their own behalf."""

    def __init__(
        self,
        registry: Registry,
        store: Store,
        keys: TokenKeys,
        metrics: Metrics,
        setup_codes: SetupCodeService,
    ) -> None:
        self._registry = registry
        self._store = store
        self._keys = keys
        self._metrics = metrics
        self._log = structlog.get_logger("approval")
        self._table: Mapping[str, Callable[[Caller, Call], Awaitable[object]]] = {
            "device.pair.list": self._list,
            "device.pair.approve": self._approve,
            "device.pair.reject": self._reject,
            "device.pair.remove": self._remove,
            "device.pair.rename": self._rename,
            "device.token.rotate": self._rotate,
            "device.token.revoke": self._revoke,
            "node.pair.remove": self._remove_node,
            "status": self._status,
            "system-presence": self._presence,
            "node.list": self._nodes,
            "node.describe": self._node,
            **SetupMethods(setup_codes).by_name,
        }

    async def answered(self, call: Call) -> Reply:
        """Carry out a call; None if the outcome is unknown."""
        caller = _caller(call)
        method = self._table.get(call.method)
        if method is None:
            # The gateway is newer than this replica; it can try another one.
            return None
        outcome: Result | Error
        try:
            payload = _encode_json(await method(caller, call))
            changed = await self._registry.head() if call.method in _CHANGING else Position()
            packed = len(payload) > PACKED_FROM_BYTES
            outcome = Result(changed, zlib.compress(payload) if packed else payload, packed)
        except StoreUnavailable as missing:
            self._log.warning(
                log_events.STORE_UNAVAILABLE.name, call=call.call_id, error=str(missing)
            )
            self._metrics.methods.labels(call.method, "unknown").inc()
            return None
        except RegistryError as error:
            outcome = failed(call.method, error, caller, call.protocol)
        ended = "returned" if isinstance(outcome, Result) else "failed"
        self._metrics.methods.labels(call.method, ended).inc()
        return encode(outcome)

    async def _list(self, caller: Caller, call: Call) -> object:
        pending = await self._registry.pending(caller)
        return serializers.device_list(pending, await self._registry.devices(caller), call.protocol)

    async def _approve(self, caller: Caller, call: Call) -> object:
        request_id = call.params["requestId"]
        paired = await self._registry.approve(caller, request_id)
        return Approved(request_id, serializers.device(paired, call.protocol))

    async def _reject(self, caller: Caller, call: Call) -> object:
        request_id = call.params["requestId"]
        return Rejected(request_id, await self._registry.reject(caller, request_id))

    async def _remove(self, caller: Caller, call: Call) -> object:
        await self._registry.remove(caller, call.params["deviceId"])
        return Removed(call.params["deviceId"])

    async def _rename(self, caller: Caller, call: Call) -> object:
        device_id = call.params["deviceId"]
        label = await self._registry.rename(caller, device_id, call.params["label"])
        return Renamed(device_id, label)

    async def _rotate(self, caller: Caller, call: Call) -> object:
        device_id, role = call.params["deviceId"], call.params["role"]
        fresh = await self._registry.rotate(caller, device_id, role, call.params.get("scopes"))
        own = caller.kind == "device-token" and caller.device_id == device_id
        token = self._keys.derive(device_id, role, fresh.token_id) if own else ""
        return serializers.rotated(device_id, role, fresh, token, call.protocol)

    async def _revoke(self, caller: Caller, call: Call) -> object:
        device_id, role = call.params["deviceId"], call.params["role"]
        return revoked_object(device_id, role, await self._registry.revoke(caller, device_id, role))

    async def _remove_node(self, caller: Caller, call: Call) -> object:
        """Revoke the node role of a device that the caller removes from an OpenClaw behind us."""
        await self._registry.revoke_node(caller, call.params["nodeId"])
        return {}

    async def _status(self, caller: Caller, _call: Call) -> object:
        connected, gateways = await self._registry.connected(caller)
        approvals = await self._store.presence.approvals()
        return serializers.status(len(connected), gateways, approvals, self._store.now_ms())

    async def _presence(self, caller: Caller, _call: Call) -> object:
        connected, gateways = await self._registry.connected(caller)
        return serializers.presence(connected, gateways, self._store.now_ms())

    async def _nodes(self, caller: Caller, _call: Call) -> object:
        nodes = await self._registry.nodes(caller)
        return serializers.NodeList(self._store.now_ms(), [serializers.node(one) for one in nodes])

    async def _node(self, caller: Caller, call: Call) -> object:
        for one in await self._registry.nodes(caller):
            if one.device_id == call.params["nodeId"]:
                return serializers.described(one, self._store.now_ms())
        raise UnknownDevice


def _caller(call: Call) -> Caller:
    """Return the caller. An unknown kind gets no rights beyond its own device."""
    info = call.caller
    kind = info.kind if info.kind in {"gateway", "shared-secret"} else "device-token"
    scopes: list[Any] = info.scopes
    if kind == "gateway":
        scopes = [scope for scope in scopes if scope != ADMIN]
    return Caller(
        kind=cast("Kind", kind),
        name=info.name,
        scopes=tuple(scopes),
        device_id=info.device_id,
        token_generation=info.token_generation,
        call_id=call.call_id,
        not_after_ms=call.not_after_ms,
    )
