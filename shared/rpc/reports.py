"""What a heartbeat reports besides its position: connections, admissions, refusals, the upstream.

Encoded as in `messages`: fields are only ever appended, with defaults.
"""

from __future__ import annotations

import msgspec


class Present(msgspec.Struct, array_like=True, frozen=True):
    """One connection of a gateway: its number there, its device, and since when it is open."""

    number: int
    device_id: str
    role: str
    since_ms: int


class Seen(msgspec.Struct, array_like=True, frozen=True):
    """A device that a gateway has admitted, with the milliseconds since then.

    An age instead of a time, because the two services share no clock. `method` as for
    AuthorizeDevice. `name` is the display name; `app` and `platform` are the client id and the
    platform (with the version of the operating system) of a native app. Each is empty if the client
    left it out.
    """

    device_id: str
    role: str
    method: str
    address: str
    age_ms: int
    name: str = ""
    app: str = ""
    platform: str = ""


class RefusalReport(msgspec.Struct, array_like=True, frozen=True):
    """Consecutive connection attempts that a gateway refused for the same reason.

    `reason` is a code; `undecided`: whether the client may connect could not be determined.
    `device_id` is the client's claim (empty: not a valid id), and `proven` tells whether its
    signature was valid. `number` identifies this series of attempts at this gateway, `count` is the
    number of attempts and `confirmed` how many of them an acknowledged heartbeat has already
    reported, so that a report that arrives twice counts once. Ages are in milliseconds before the
    report, of the last attempt and of the first. `detail` is one more fact, such as the page's
    origin or the request id.
    """

    reason: str
    undecided: bool
    device_id: str
    proven: bool
    address: str
    number: int
    count: int
    confirmed: int
    age_ms: int
    first_age_ms: int
    client_id: str = ""
    display_name: str = ""
    detail: str = ""


class UpstreamState(msgspec.Struct, array_like=True, frozen=True):
    """A gateway's view of its upstream: whether it answers, its release, why not, for how long.

    `problems` are codes of what is wrong with it, its configuration included.
    """

    reachable: bool
    version: str = ""
    reason: str = ""
    down_s: int = 0
    problems: list[str] = []
