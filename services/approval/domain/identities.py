"""Compares the identity a device claims with those shown or approved before. Pure.

The key authenticates the device; an identity only describes it: client, name, platform and family.
Requests and pairings hold one identity per client that uses the key, because the command line and
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

    from services.approval.domain.records import LastSeen, Metadata, Pairing, Pending
    from shared.rpc.messages import AuthorizeDevice

ASKING_LIMIT: Final = 4
"""Max. identities of one request. Further ones do not change the request."""
APPROVED_LIMIT: Final = 8
"""Max. identities of a pairing; the oldest approvals are dropped first."""

_MAC_APP: Final = "openclaw-macos"
_NODE_HOST: Final = ("node-host", "node")


def identities_of(request: Pending | Pairing) -> tuple[Identity, ...]:
    """Return all identities that a request shows, or a pairing has approved, newest first."""
    about = request.metadata
    newest = Identity(
        request.role,
        about.client_id,
        about.client_mode,
        about.platform,
        about.device_family,
        about.display_name,
    )
    return (newest, *request.others)


def claimed(question: AuthorizeDevice) -> Identity:
    """Return the identity claimed in a request for authorization."""
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
    """Return whether `shown` already covers an identity, so that no new request is needed.

    A changed version of the operating system, or an omitted name, is nothing new.
    """
    return any(_shows(known, one) for known in shown)


def as_shown(shown: Sequence[Identity], one: Identity) -> Identity:
    """Return the identity in `shown` that covers this one, or this one if none does."""
    return next((known for known in shown if _shows(known, one)), one)


def added(shown: Sequence[Identity], one: Identity) -> tuple[Identity, ...]:
    """Return the identities that stay in a request beside a new one, newest first."""
    kept = [known for known in shown if known != one]
    return tuple(kept[: ASKING_LIMIT - 1])


def is_approved(pairing: Pairing, one: Identity) -> bool:
    """Return whether a device still matches what was approved.

    Compare with the identities of the same role and client; if there are none, with those of the
    same role; if there are none, with all.
    """
    known = identities_of(pairing)
    of_role = [other for other in known if other.role == one.role] or known
    of_client = [other for other in of_role if other.client_id == one.client_id]
    return any(_fits(other, one) for other in of_client or of_role)


def merged(pending: Pending, before: Pairing | None) -> tuple[Identity, ...]:
    """Merge the identities of an approved request into those of the pairing, newest first.

    An identity replaces earlier ones of the same client and role. Of identities that differ only
    in name, the newest is kept.
    """
    asked = identities_of(pending)
    replaced = {(one.role, one.client_id, one.client_mode) for one in asked}
    earlier = identities_of(before) if before else ()
    kept = [one for one in earlier if (one.role, one.client_id, one.client_mode) not in replaced]
    found: dict[Identity, Identity] = {}
    for one in (*asked, *kept):
        found.setdefault(replace(one, display_name=""), one)
    return tuple(found.values())[:APPROVED_LIMIT]


def as_seen(pairing: Pairing, seen: LastSeen | None) -> Metadata:
    """Return a paired device's metadata: as approved, with later changes applied.

    A device may change its name and operating system version without approval.
    """
    about = pairing.metadata
    if seen is None:
        return about
    since = pairing.approved_at_ms
    if seen.name and (seen.named_at >= since or not about.display_name):
        about = replace(about, display_name=seen.name)
    platform = seen.platforms.get(about.client_id, "")
    if platform and seen.versioned_at >= since and platform != about.platform:
        approved = identities_of(pairing)[0]
        if _version_moved(approved, replace(approved, platform=platform)):
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
    """Return whether a claim matches an approved identity; fields omitted there match anything."""
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
        # Clients that predate the family field use the runtime's name for their system.
        return now == common and _family(one) == FAMILIES[common]
    return _version_moved(known, one)


def _version_moved(known: Identity, one: Identity) -> bool:
    """Return whether the same app claims the same system, in any version."""
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
    """Return the family; for a node host that omits it, derive it from the platform."""
    family = normalised_metadata(one.device_family)
    if family or not _is_node_host(one):
        return family
    return FAMILIES.get(_platform(one), "")


def _is_node_host(one: Identity) -> bool:
    return (one.client_id, one.client_mode) == _NODE_HOST
