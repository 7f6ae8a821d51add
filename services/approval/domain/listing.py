"""Pagination and search of long lists, and addresses with many requests. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from services.approval.domain.identities import identities_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from services.approval.domain.records import Identity, Pairing, Pending

PART_LIMIT: Final = 200
"""Max. entries per page of a list."""
SEVERAL_REQUESTS: Final = 6
"""Addresses with at least this many requests are named in the list of requests."""
ADDRESSES_LIMIT: Final = 10
"""Max. addresses named in the list of requests, those with the most requests first."""


class PageCursor(NamedTuple):
    """Position of an entry in a list sorted by time and then by id, newest first.

    It identifies the entry rather than its rank, so paging through a list that changes neither
    repeats nor skips entries.
    """

    at_ms: int
    id: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """A page of a list: `limit` entries after a cursor, among those that match the search."""

    limit: int
    after: PageCursor | None = None
    search: str = ""


@dataclass(frozen=True, slots=True)
class WantedRequests(Wanted):
    """A page of requests.

    `address`: only requests counted against this limit key. `per_address`: at most this many of
    each address, newest first; 0 means all. `keep`: ids listed in any case while pending.
    """

    address: str = ""
    per_address: int = 0
    keep: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Requests:
    """A page of pending requests, as indexes into the requests given.

    `total` counts all matches; `following` is the cursor of the next page.
    """

    places: list[int]
    total: int
    following: PageCursor | None
    addresses: list[tuple[str, int]]


def write_position(position: PageCursor) -> str:
    """Encode a cursor for clients."""
    return f"{position.at_ms}.{position.id}"


def read_position(text: str) -> PageCursor:
    """Decode a cursor; raise ValueError if it is malformed."""
    at_ms, separator, entry_id = text.partition(".")
    if not separator or not at_ms.isascii() or not at_ms.isdigit() or not entry_id:
        message = "not a position that was given out"
        raise ValueError(message)
    return PageCursor(int(at_ms), entry_id)


def finds_device(search: str, device_id: str, pairing: Pairing, address: str = "") -> bool:
    """Return whether a search matches a paired device; `address` is where it was last seen."""
    return _finds(
        search,
        device_id,
        pairing.operator_label,
        pairing.metadata.display_name,
        pairing.metadata.address,
        address,
        *_of_identities(identities_of(pairing)),
        *pairing.roles,
        *pairing.scopes,
    )


def finds_request(search: str, device_id: str, pending: Pending, label: str) -> bool:
    """Return whether a search matches a request; `label` is the operator's name for its device."""
    return _finds(
        search,
        pending.request_id,
        device_id,
        label,
        pending.metadata.address,
        pending.limit_key,
        *_of_identities(identities_of(pending)),
        *pending.roles,
        *pending.scopes,
    )


def part_of_requests(found: Sequence[tuple[str, Pending, str]], wanted: WantedRequests) -> Requests:
    """Return the wanted page; `found` holds device id, request and label of each request."""
    counted = Counter(pending.limit_key for _device_id, pending, _label in found)
    matching = {
        place
        for place, (device_id, pending, label) in enumerate(found)
        if wanted.address in ("", pending.limit_key)
        and finds_request(wanted.search, device_id, pending, label)
    }
    order = sorted(
        (
            (PageCursor(pending.created_at_ms, pending.request_id), place)
            for place, (_device_id, pending, _label) in enumerate(found)
            if place in matching or pending.request_id in wanted.keep
        ),
        reverse=True,
    )
    places: list[int] = []
    of_address: Counter[str] = Counter()
    last: PageCursor | None = None
    left_over = False
    taken = 0
    for position, place in order:
        pending = found[place][1]
        of_address[pending.limit_key] += 1
        fits = (
            place in matching
            and (wanted.after is None or position < wanted.after)
            and (not wanted.per_address or of_address[pending.limit_key] <= wanted.per_address)
        )
        if fits and taken < wanted.limit:
            taken, last = taken + 1, position
        elif pending.request_id not in wanted.keep:
            left_over = left_over or fits
            continue
        places.append(place)
    addresses = [
        (address, count) for address, count in counted.most_common() if count >= SEVERAL_REQUESTS
    ]
    return Requests(places, len(matching), last if left_over else None, addresses[:ADDRESSES_LIMIT])


def _of_identities(identities: Iterable[Identity]) -> Iterator[str]:
    for one in identities:
        yield from (one.display_name, one.client_id, one.platform, one.device_family)


def _finds(search: str, *texts: str) -> bool:
    """Return whether every word of the search occurs in one of the texts, ignoring case."""
    folded = [text.casefold() for text in texts]
    return all(any(word in text for text in folded) for word in _words(search))


def _words(search: str) -> Iterable[str]:
    return search.casefold().split()
