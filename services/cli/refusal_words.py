"""Refusals as text and rows for people. Pure; all text from clients is escaped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import UNSET

from services.cli import words

if TYPE_CHECKING:
    from collections.abc import Iterable

    from services.approval.schemas.devices import PairedDevice, Refusal, WaitingRequest
    from services.cli.output import Row

_PAGE: Final = "docs/reference/causes.md"
_WAITING: Final = frozenset({"not-paired", "scope-upgrade", "role-upgrade", "metadata-upgrade"})
"""Reasons that say nothing more than that the request is pending."""


def names_of(one: WaitingRequest | PairedDevice | Refusal) -> set[str]:
    """Return its label and display name, in lower case."""
    given = (getattr(one, "operator_label", UNSET), one.display_name)
    return {name.strip().lower() for name in given if isinstance(name, str)}


def note(one: WaitingRequest | PairedDevice, now_ms: int) -> str:
    """Summarize the refusals of a device since it was last admitted; empty if there are none."""
    notes = []
    for refusal, whose in ((one.last_refusal, ""), (one.last_refused_claim, "claimed: ")):
        if refusal is not UNSET and not refusal.past and refusal.reason not in _WAITING:
            notes.append(f"{whose}{_what(refusal)} {_when(refusal, now_ms)}: {refusal.title}")
    return "\n".join(notes)


def heading(one: Refusal, now_ms: int) -> str:
    """Return one line: the client, the outcome, when, and why."""
    return f"{_who(one)}: {_what(one)} {_when(one, now_ms)}: {one.title}"


def rows(one: Refusal, now_ms: int) -> Iterable[Row]:
    """Return all details of a refusal, and what to do."""
    if one.device_id is not UNSET:
        yield "device", one.device_id
    if one.count > 1:
        yield "attempts", f"{one.count}, the first {words.ago(one.first_at_ms, now_ms)}"
    yield "client", words.safe(one.client_id) if one.client_id is not UNSET else ""
    yield "from", _address(one)
    yield "gateway", words.replica_name(one.replica)
    yield "reason", one.reason + (f" ({words.safe(one.detail)})" if one.detail is not UNSET else "")
    if one.past:
        yield "since then", "the device was admitted"
    claim = one.device_id is not UNSET and not one.proven
    yield "if it is yours" if claim else "what to do", one.remedy
    if one.cause is not UNSET:
        yield "more", f"`{one.cause}` in {_PAGE}"


def row(one: Refusal, now_ms: int) -> list[str]:
    """Return the cells of a refusal in a table."""
    past = " (admitted since)" if one.past else ""
    times = f" ({one.count} times)" if one.count > 1 else ""
    return [
        words.beginning(one.device_id, 16) if one.device_id is not UNSET else "no device",
        _called(one) if one.proven or one.device_id is UNSET else f"claims: {_called(one)}",
        ("could not be decided: " if one.undecided else "") + one.title + past,
        _address(one),
        _when(one, now_ms) + times,
    ]


def _who(one: Refusal) -> str:
    if one.device_id is UNSET:
        return f"A client without a device ({_called(one)})"
    device = f"{_called(one)} ({one.device_id[:16]})"
    return device if one.proven else f"A client that claims, without proof, to be {device}"


def _called(one: Refusal) -> str:
    if one.display_name is not UNSET and one.display_name.strip():
        return words.safe(one.display_name)
    return words.safe(one.client_id) if one.client_id is not UNSET else "unknown client"


def _what(one: Refusal) -> str:
    return "could not be decided" if one.undecided else "refused"


def _when(one: Refusal, now_ms: int) -> str:
    return words.ago(one.last_at_ms, now_ms)


def _address(one: Refusal) -> str:
    return words.safe(one.remote_ip) if one.remote_ip is not UNSET else "this machine"
