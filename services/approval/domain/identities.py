"""What a device claims to be, and whether that is what was shown or approved. Pure.

The key proves who asks; a claimed identity only describes it: client, name, platform and family.
Requests and pairings hold one identity for each client that uses the key, as the command line and
the node host of one installation share a key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from services.approval.domain.records import Identity
from shared.protocol.platforms import FAMILIES, common_name, system_of
from shared.protocol.signing import normalised_metadata

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.approval.domain.records import Metadata, Pairing, Pending, Sighting
    from shared.rpc.messages import AuthorizeDevice

ASKING_LIMIT: Final = 4
"""How many identities one request shows. A further one no longer changes the request."""
APPROVED_LIMIT: Final = 8
"""How many identities a pairing holds; those approved longest ago go first."""

_MAC_APP: Final = "openclaw-macos"
_NODE_HOST: Final = ("node-host", "node")


def claimed(question: AuthorizeDevice) -> Identity:
    """Return the identity that a question claims."""
    client = question.client
    return Identity(
        question.role,
        client.id,
        client.mode,
        client.platform,
        client.device_family,
        client.display_name,
    )


def is_shown(shown: Sequence[Identity], one: Identity) -> bool:
    """Say whether an identity shows nothing that these do not: then it needs no new request.

    A moved version of the operating system, or a name left out, is nothing new.
    """
    return any(_shows(known, one) for known in shown)


def as_shown(shown: Sequence[Identity], one: Identity) -> Identity:
    """Return the identity that shows this one already; itself if none does."""
    return next((known for known in shown if _shows(known, one)), one)


def added(shown: Sequence[Identity], one: Identity) -> tuple[Identity, ...]:
    """Return which of the identities shown go on beside a new one, newest first."""
    kept = [known for known in shown if known != one]
    return tuple(kept[: ASKING_LIMIT - 1])


def is_approved(pairing: Pairing, one: Identity) -> bool:
    """Say whether a device is still what was approved.

    An identity is held against those of the same role and client; else against those of the same
    role; else against all.
    """
    known = pairing.identities
    of_role = [other for other in known if other.role == one.role] or known
    of_client = [other for other in of_role if other.client_id == one.client_id]
    return any(_fits(other, one) for other in of_client or of_role)


def merged(pending: Pending, before: Pairing | None) -> tuple[Identity, ...]:
    """Return the identities of an approved request and of the pairing before, newest first.

    What was approved for a client in a role stands in the place of what was before. Of those that
    differ in their name alone the newest is kept.
    """
    asked = pending.identities
    replaced = {(one.role, one.client_id, one.client_mode) for one in asked}
    earlier = before.identities if before else ()
    kept = [one for one in earlier if (one.role, one.client_id, one.client_mode) not in replaced]
    found: dict[Identity, Identity] = {}
    for one in (*asked, *kept):
        found.setdefault(replace(one, display_name=""), one)
    return tuple(found.values())[:APPROVED_LIMIT]


def as_seen(pairing: Pairing, seen: Sighting | None) -> Metadata:
    """Return what a paired device says of itself: as approved, with what it has changed since.

    It may change its name, and the version of its operating system, without a person.
    """
    about = pairing.metadata
    if seen is None:
        return about
    since = pairing.approved_at_ms
    if seen.name and (seen.named_at >= since or not about.display_name):
        about = replace(about, display_name=seen.name)
    platform = seen.platforms.get(about.client_id, "")
    if platform and seen.versioned_at >= since and platform != about.platform:
        moved = replace(pairing.identities[0], platform=platform)
        if _version_moved(pairing.identities[0], moved):
            about = replace(about, platform=platform)
    return about


def _shows(known: Identity, one: Identity) -> bool:
    if (known.role, known.client_id, known.client_mode) != (
        one.role,
        one.client_id,
        one.client_mode,
    ):
        return False
    if one.display_name and one.display_name != known.display_name:
        return False
    if _family(known) != _family(one):
        return False
    return _platform(known) == _platform(one) or _version_moved(known, one)


def _fits(known: Identity, one: Identity) -> bool:
    """Say whether a claim fits an approved identity; what was left out there fits all."""
    family = normalised_metadata(known.device_family)
    if family and family != _family(one):
        return False
    platform, now = normalised_metadata(known.platform), normalised_metadata(one.platform)
    if not platform or platform == now:
        return True
    if not now:
        return False
    common = common_name(platform)
    if _is_node_host(one):
        return common == common_name(now) or (
            common_name(now) == "macos" and bool(system_of(_MAC_APP, platform))
        )
    if not family and common != platform:
        # A client from before families were sent calls its system by its runtime's name.
        return now == common and _family(one) == FAMILIES[common]
    return _version_moved(known, one)


def _version_moved(known: Identity, one: Identity) -> bool:
    """Say whether the same app claims the same system, in whatever version."""
    if known.client_id != one.client_id:
        return False
    system = system_of(one.client_id, normalised_metadata(one.platform))
    if not system:
        return False
    platform = normalised_metadata(known.platform)
    if system == "macos" and common_name(platform) == "macos":
        return True
    return system_of(one.client_id, platform) == system


def _platform(one: Identity) -> str:
    platform = normalised_metadata(one.platform)
    return common_name(platform) if _is_node_host(one) else platform


def _family(one: Identity) -> str:
    """Return the family; a node host that leaves it out has that of its system."""
    family = normalised_metadata(one.device_family)
    if family or not _is_node_host(one):
        return family
    return FAMILIES.get(_platform(one), "")


def _is_node_host(one: Identity) -> bool:
    return (one.client_id, one.client_mode) == _NODE_HOST
