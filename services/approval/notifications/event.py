"""What is notified: an event, independent of target and format. Pure."""

from __future__ import annotations

import hashlib
from typing import Final
from urllib.parse import quote

import msgspec

from services.approval.domain.records import AuditEntry  # noqa: TC001 (used by `of_change`)
from shared.rpc.messages import Changed  # noqa: TC001 (used by `of_change`)

WAITING: Final = "device.waiting"
APPROVED: Final = "device.approved"
REJECTED: Final = "device.rejected"
REMOVED: Final = "device.removed"
LOCKED_OUT: Final = "lockout.started"
HISTORY_LOST: Final = "history.lost"
MISSED: Final = "notifications.missed"
TEST: Final = "webhook.test"

_OF_KIND: Final = {
    "requested": WAITING,
    "approved": APPROVED,
    "rejected": REJECTED,
    "removed": REMOVED,
    "history-lost": HISTORY_LOST,
}
"""Types of notifications, by kind of change; other changes cause none."""
SCOPES_SHOWN: Final = 20
"""Max. scopes in a notification."""
TEXT_LIMIT_CHARACTERS: Final = 200
"""Max. length of a text that a device or a person chose."""


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One notification, as queued. Texts are those of devices and people, unescaped."""

    id: str
    type: str
    at_ms: int
    device_id: str = ""
    name: str = ""
    request_id: str = ""
    role: str = ""
    scopes: tuple[str, ...] = ()
    platform: str = ""
    address: str = ""
    credential: str = ""
    actor: str = ""
    """Who caused it, as in the audit log; empty if that is the device itself."""
    until_ms: int = 0
    """End of a lock-out."""
    missed: int = 0
    """How many notifications were not delivered; 0 if that is not known."""


class _Request(msgspec.Struct, rename="camel", frozen=True):
    """Parts of a request as JSON for clients."""

    display_name: str = ""
    platform: str = ""
    role: str = ""
    scopes: tuple[str, ...] = ()
    remote_ip: str = ""


encode: Final = msgspec.json.Encoder().encode
decode: Final = msgspec.json.Decoder(Event).decode
"""Decode an event from the queue; raises msgspec.MsgspecError."""
_decode_request: Final = msgspec.json.Decoder(_Request).decode


def of_change(change: Changed, entry: AuditEntry | None) -> Event | None:
    """Return the event of a change; None if it is not notified.

    `entry` is the change's entry in the audit log. Entries of one address are limited per hour, so
    it may be missing; then the change alone has to do.
    """
    kind = _OF_KIND.get(change.kind)
    if kind is None:
        return None
    request = _request_of(change)
    event = Event(
        id=f"msg_{change.change.tag}{change.change.number}",
        type=kind,
        at_ms=change.at_ms,
        device_id=change.device_id,
        request_id=_bounded(change.request_id),
        name=_bounded(request.display_name),
        role=_bounded(request.role),
        scopes=tuple(map(_bounded, request.scopes[:SCOPES_SHOWN])),
        platform=_bounded(request.platform),
        address=_bounded(request.remote_ip),
    )
    if entry is None or entry.action != change.kind:
        return event
    return msgspec.structs.replace(
        event,
        name=_bounded(entry.name) or event.name,
        role=_bounded(entry.role),
        scopes=tuple(map(_bounded, entry.scopes[:SCOPES_SHOWN])),
        address=_bounded(entry.address),
        actor="" if entry.actor == f"device {change.device_id}" else _bounded(entry.actor),
    )


def of_lockout(credential: str, address: str, *, until_ms: int, lasts_ms: int) -> Event:
    """Return the event of a lock-out that has started."""
    seed = f"{credential} {address} {until_ms}"
    return Event(
        id=f"msg_{_digest(seed)}",
        type=LOCKED_OUT,
        at_ms=until_ms - lasts_ms,
        address=address,
        credential=credential,
        until_ms=until_ms,
    )


def of_lost_history(seed: str, at_ms: int) -> Event:
    """Return the event of a history that was lost without leaving an entry."""
    return Event(id=f"msg_{_digest(seed)}", type=HISTORY_LOST, at_ms=at_ms)


def of_missed(seed: str, at_ms: int, count: int) -> Event:
    """Return the event that says how many notifications were not delivered."""
    return Event(id=f"msg_{_digest(seed)}", type=MISSED, at_ms=at_ms, missed=count)


def link_to(event: Event, public_url: str) -> str:
    """Return the address of the page that shows what an event is about; empty if unknown."""
    if not public_url:
        return ""
    if event.type == WAITING and event.request_id:
        return f"{public_url}/setup#request={quote(event.request_id, safe='')}"
    if event.type in {APPROVED, REJECTED, REMOVED} and event.device_id:
        return f"{public_url}/setup#device={quote(event.device_id, safe='')}"
    return f"{public_url}/setup"


def _request_of(change: Changed) -> _Request:
    try:
        return _decode_request(change.request) if change.request else _Request()
    except msgspec.MsgspecError:
        return _Request()


def _bounded(text: str) -> str:
    return text if len(text) <= TEXT_LIMIT_CHARACTERS else text[: TEXT_LIMIT_CHARACTERS - 1] + "…"


def _digest(seed: str) -> str:
    return hashlib.sha256(seed.encode()).hexdigest()[:32]
