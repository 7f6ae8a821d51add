"""Refusals as text and rows for people. Pure; all text from clients is escaped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import UNSET

from services.cli.text import words

if TYPE_CHECKING:
    from collections.abc import Iterable

    from services.approval.schemas.devices import PairedDevice, WaitingRequest
    from services.approval.schemas.refusals import Refusal
    from services.cli.text.output import Row

_PAGE: Final = "docs/reference/causes.md"
_WAITING: Final = frozenset({"not-paired", "scope-upgrade", "role-upgrade", "metadata-upgrade"})
"""Reasons that say nothing more than that the request is pending."""


def names_of(item: WaitingRequest | PairedDevice | Refusal) -> set[str]:
    """Return its label and display name, in lower case."""
    given = (getattr(item, "operator_label", UNSET), item.display_name)
    return {name.strip().lower() for name in given if isinstance(name, str)}


def note(item: WaitingRequest | PairedDevice, now_ms: int) -> str:
    """Summarize the refusals of a device since it was last admitted; empty if there are none."""
    notes = []
    for refusal, whose in ((item.last_refusal, ""), (item.last_refused_claim, "claimed: ")):
        if refusal is not UNSET and not refusal.past and refusal.reason not in _WAITING:
            notes.append(f"{whose}{_what(refusal)} {_when(refusal, now_ms)}: {refusal.title}")
    return "\n".join(notes)


def heading(refusal: Refusal, now_ms: int) -> str:
    """Return one line: the client, the outcome, when, and why."""
    return f"{_who(refusal)}: {_what(refusal)} {_when(refusal, now_ms)}: {refusal.title}"


def rows(refusal: Refusal, now_ms: int) -> Iterable[Row]:
    """Return all details of a refusal, and what to do."""
    if refusal.device_id is not UNSET:
        yield "device", refusal.device_id
    if refusal.count > 1:
        yield "attempts", f"{refusal.count}, the first {words.ago(refusal.first_at_ms, now_ms)}"
    yield "client", words.safe(refusal.client_id) if refusal.client_id is not UNSET else ""
    yield "from", _address(refusal)
    yield "gateway", words.replica_name(refusal.replica)
    yield (
        "reason",
        refusal.reason
        + (f" ({words.safe(refusal.detail)})" if refusal.detail is not UNSET else ""),
    )
    if refusal.past:
        yield "since then", "the device was admitted"
    claim = refusal.device_id is not UNSET and not refusal.proven
    yield "if it is yours" if claim else "what to do", refusal.remedy
    if refusal.cause is not UNSET:
        yield "more", f"`{refusal.cause}` in {_PAGE}"


def row(refusal: Refusal, now_ms: int) -> list[str]:
    """Return the cells of a refusal in a table."""
    past = " (admitted since)" if refusal.past else ""
    times = f" ({refusal.count} times)" if refusal.count > 1 else ""
    return [
        words.beginning(refusal.device_id, 16) if refusal.device_id is not UNSET else "no device",
        _called(refusal)
        if refusal.proven or refusal.device_id is UNSET
        else f"claims: {_called(refusal)}",
        ("could not be decided: " if refusal.undecided else "") + refusal.title + past,
        _address(refusal),
        _when(refusal, now_ms) + times,
    ]


def _who(refusal: Refusal) -> str:
    if refusal.device_id is UNSET:
        return f"A client without a device ({_called(refusal)})"
    device = f"{_called(refusal)} ({refusal.device_id[:16]})"
    return device if refusal.proven else f"A client that claims, without proof, to be {device}"


def _called(refusal: Refusal) -> str:
    if refusal.display_name is not UNSET and refusal.display_name.strip():
        return words.safe(refusal.display_name)
    return words.safe(refusal.client_id) if refusal.client_id is not UNSET else "unknown client"


def _what(refusal: Refusal) -> str:
    return "could not be decided" if refusal.undecided else "refused"


def _when(refusal: Refusal, now_ms: int) -> str:
    return words.ago(refusal.last_at_ms, now_ms)


def _address(refusal: Refusal) -> str:
    return words.safe(refusal.remote_ip) if refusal.remote_ip is not UNSET else "this machine"
