"""Requests and devices as rows for people. Pure; all text from devices is escaped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import UNSET

from services.cli.text import refusals, words
from shared.protocol.scopes import ADMIN as ADMIN_SCOPE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from services.approval.schemas.devices import ClaimedIdentity, PairedDevice, WaitingRequest
    from services.cli.text.output import Row

ID_CHARACTERS: Final = 16
"""Characters of a device id that are shown."""
MARK: Final = "!"
MARKED: Final = f"{MARK} gives control over other devices, or over the machine behind the gateway."
ADMIN: Final = (
    "This gives full control (operator.admin): the device can approve, remove and rename every "
    "device, grant any scope to any device, change every setting of the gateway, and run commands "
    "on the machines behind it. Approve it only if it is your device."
)
_THIS_MACHINE: Final = "this machine, or a proxy on it"
_NODE: Final = "node: runs commands that the gateway sends"


def name_of(about: WaitingRequest | PairedDevice | ClaimedIdentity) -> str:
    """Return a device's name: the operator's label, else its own name, else its kind."""
    label = getattr(about, "operator_label", UNSET)
    for name in (label, about.display_name):
        if name is not UNSET and name.strip():
            return words.safe(name)
    return words.kind_of(about.client_id, about.client_mode)


def request_rows(
    request: WaitingRequest, known: PairedDevice | None, *, now_ms: int
) -> Iterable[Row]:
    """Return everything an operator should see before approving."""
    held = _held(known) if known else set()
    name = words.safe(request.display_name) if request.display_name is not UNSET else ""
    yield "name", f"{name} (chosen by the device)" if name else "none"
    yield "kind", words.kind_of(request.client_id, request.client_mode)
    yield "platform", words.safe(_joined(request.platform, request.device_family))
    others = "\n".join(map(_identity_line, _others(request)))
    if others:
        yield "also as", others
    yield "address", words.safe(_text(request.remote_ip) or _THIS_MACHINE)
    yield "asked", _asked(request, now_ms)
    if known is not None:
        yield "paired as", f"{name_of(known)}, {words.ago(known.approved_at_ms, now_ms)}"
    yield "role", ", ".join(_NODE if role == "node" else role for role in request.roles)
    yield "scopes", "\n".join(_scope_line(scope, held) for scope in request.scopes) or "none"
    yield "fingerprint", f"{words.fingerprint(request.device_id)} (how its device id begins)"
    yield "device", words.safe(request.device_id)


def _held(device: PairedDevice) -> set[str]:
    """Return a device's scopes, without those of revoked tokens."""
    if not device.tokens:
        return set(device.scopes)
    live = (token.scopes for token in device.tokens if token.revoked_at_ms is UNSET)
    return {scope for scopes in live for scope in scopes}


def needs_care(about: WaitingRequest | PairedDevice) -> bool:
    """Return whether a request or a device has a marked scope."""
    return any(map(words.is_powerful, about.scopes))


def gives_admin(request: WaitingRequest) -> bool:
    """Return whether approving a request grants or restores full control."""
    return request.grants_admin or ADMIN_SCOPE in request.scopes


def pending_row(request: WaitingRequest, now_ms: int) -> list[str]:
    """Return the cells of a pending request."""
    return [
        request.request_id,
        "\n".join(
            [
                name_of(request) + (" (already paired)" if request.is_repair else ""),
                words.beginning(request.device_id, ID_CHARACTERS),
                *(f"also {name_of(other)}" for other in _others(request)),
            ]
        ),
        _asks_for(request.roles, request.scopes),
        _text(request.remote_ip) or "this machine",
        _lines(_asked(request, now_ms), refusals.note(request, now_ms)),
    ]


def device_row(device: PairedDevice, now_ms: int) -> list[str]:
    """Return the cells of a paired device."""
    return [
        words.beginning(device.device_id, ID_CHARACTERS),
        name_of(device),
        _asks_for(device.roles, device.scopes),
        _lines(standing(device, now_ms), refusals.note(device, now_ms)),
    ]


def standing(device: PairedDevice, now_ms: int) -> str:
    """Return where a device is connected or when it was last seen, and the state of its tokens."""
    revoked = [token.role for token in device.tokens or () if token.revoked_at_ms is not UNSET]
    imported = [
        f"earlier token as {token.role} accepted until {words.moment(token.imported_until_ms)}"
        for token in device.tokens or ()
        if isinstance(token.imported_until_ms, int) and token.imported_until_ms > now_ms
    ]
    return "\n".join(
        [_presence(device, now_ms), *(f"revoked: {role}" for role in revoked), *imported]
    )


def _presence(device: PairedDevice, now_ms: int) -> str:
    if device.connected and device.replicas:
        return "Online at " + ", ".join(map(words.replica_name, device.replicas))
    if device.last_seen_at_ms is not UNSET:
        return f"seen {words.ago(device.last_seen_at_ms, now_ms)}"
    return "never connected"


def _others(request: WaitingRequest) -> tuple[ClaimedIdentity, ...]:
    """Return the other identities that the device claims."""
    return () if request.identities is UNSET else request.identities[1:]


def _identity_line(identity: ClaimedIdentity) -> str:
    name = f"{words.safe(identity.display_name)}, " if identity.display_name is not UNSET else ""
    kind = words.kind_of(identity.client_id, identity.client_mode)
    platform = words.safe(_joined(identity.platform, identity.device_family))
    return f"{identity.role}: {name}{kind}, {platform}"


def _asks_for(roles: Iterable[str], scopes: Iterable[str]) -> str:
    marked = [
        f"{MARK}{words.safe(scope)}" if words.is_powerful(scope) else words.safe(scope)
        for scope in scopes
    ]
    return "\n".join([", ".join(roles), *marked])


def _scope_line(scope: str, held: set[str]) -> str:
    mark = MARK if words.is_powerful(scope) else " "
    change = "" if not held else " (has it)" if scope in held else " (new)"
    return f"{mark} {words.safe(scope)}: {words.scope_in_words(scope)}{change}"


def _lines(*texts: str) -> str:
    return "\n".join(filter(None, texts))


def _asked(request: WaitingRequest, now_ms: int) -> str:
    first, last = (words.ago(at, now_ms) for at in (request.ts, request.last_asked_at_ms))
    return first if first == last else f"{first}, last {last}"


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _joined(platform: str, family: object) -> str:
    return f"{platform}, {family}" if isinstance(family, str) and family else platform
