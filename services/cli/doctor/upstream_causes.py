"""What can be wrong with the OpenClaw gateway behind Latchkey, as gateways find out. Pure.

Each cause has the name that gateways report (shared.upstream.PROBLEMS).
"""

from __future__ import annotations

from typing import Final

from services.cli.doctor.cause import Cause
from shared import upstream as known

_PASTE: Final = "`{latchkey} upstream config` prints the right one"

UNREACHABLE: Final = Cause(
    known.UNREACHABLE,
    "the dashboard's page says that OpenClaw cannot be reached; close code 1013 `gateway starting`",
    "Gateways do not reach the OpenClaw gateway behind them: {reason}. Pairing works without it.",
    "Check `UPSTREAM_URL`, and that OpenClaw runs there and listens on a private address"
    ' (`gateway.bind: "lan"`, not `loopback`). One whose configuration it refuses does not start:'
    " its log says why.",
)
NO_OPENCLAW: Final = Cause(
    known.NO_OPENCLAW,
    "the dashboard's page says that OpenClaw cannot be reached",
    "Something answers at `UPSTREAM_URL` that is not an OpenClaw gateway.",
    "Check host, port and path of `UPSTREAM_URL`: OpenClaw's port is 18789 unless it was changed.",
)
PROXY_NOT_TRUSTED: Final = Cause(
    known.PROXY_NOT_TRUSTED,
    "`403` with `proxy_attribution_required`; in OpenClaw's log `observed unattributable"
    " proxy-shaped traffic from ADDRESS`",
    "OpenClaw does not trust the address that a gateway connects from.",
    "Put the addresses of all gateway replicas into `gateway.trustedProxies`, as a range if they"
    f" change; {_PASTE}.",
)
LOOPBACK: Final = Cause(
    known.LOOPBACK,
    "in OpenClaw's log `reason=trusted_proxy_loopback_source`",
    "A gateway and OpenClaw run on one machine, and OpenClaw does not take proxies from there.",
    "Set `gateway.auth.trustedProxy.allowLoopback: true`, if only people you trust have an account"
    " on that machine; else run them apart.",
)
AUTH_MODE: Final = Cause(
    known.AUTH_MODE,
    "in OpenClaw's log `reason=token_missing`, `token_mismatch` or `password_mismatch`",
    "OpenClaw does not take its users from Latchkey: `gateway.auth.mode` is not `trusted-proxy`.",
    f'Set `gateway.auth.mode: "trusted-proxy"` with all that goes with it; {_PASTE}.',
)
OWN_TOKEN: Final = Cause(
    known.OWN_TOKEN,
    "OpenClaw does not start, or takes its own token beside what Latchkey says",
    "OpenClaw has a gateway token of its own, which does not go together with `trusted-proxy`.",
    "Remove `gateway.auth.token` (`openclaw config unset gateway.auth.token`) and the variable"
    " `OPENCLAW_GATEWAY_TOKEN` there. Devices bring the token of Latchkey's gateways.",
)
HEADERS: Final = Cause(
    known.HEADERS,
    "in OpenClaw's log `reason=trusted_proxy_user_missing` or `trusted_proxy_missing_header_…`",
    "OpenClaw looks for other headers than gateways send: their names come from `UPSTREAM_SECRET`.",
    "Set `userHeader` and `requiredHeaders` of `gateway.auth.trustedProxy` anew after a change of"
    f" `UPSTREAM_SECRET`; {_PASTE}.",
)
ALLOW_USERS: Final = Cause(
    known.ALLOW_USERS,
    "in OpenClaw's log `reason=trusted_proxy_user_not_allowed`",
    "`gateway.auth.trustedProxy.allowUsers` is not exactly the three users of Latchkey.",
    f"Set it to `latchkey`, `latchkey-relay` and `latchkey-cli`; {_PASTE}.",
)
RELAY_RIGHTS: Final = Cause(
    known.RELAY_RIGHTS,
    "admitted devices are told to retry again and again, close code 1013 `gateway starting`",
    "Latchkey may not approve devices at OpenClaw: its user `latchkey-relay` lacks scopes there.",
    "Give `latchkey-relay` the scopes `operator.admin` and `operator.pairing` in"
    f" `gateway.auth.identityScopes`; {_PASTE}.",
)
CLIENT_RIGHTS: Final = Cause(
    known.CLIENT_RIGHTS,
    "nothing: every device may do more than was approved",
    "OpenClaw gives the user `latchkey` scopes of its own: they are added to those of each device.",
    "Remove `latchkey` from `gateway.auth.identityScopes`.",
)
AUTO_APPROVES: Final = Cause(
    known.AUTO_APPROVES,
    "nothing: OpenClaw approves devices by itself",
    "OpenClaw approves devices that Latchkey did not send, or widens their scopes by itself.",
    "Set `gateway.auth.trustedProxy.deviceAutoApprove.enabled: false` and"
    " `gateway.nodes.pairing.autoApproveLocal: false`.",
)
ORIGINS: Final = Cause(
    known.ORIGINS,
    "the dashboard loads and is refused: `origin not allowed`, or told to retry without end",
    "OpenClaw refuses pages that Latchkey lets connect.",
    "Put the same origins into `gateway.controlUi.allowedOrigins` there as into"
    f" `GATEWAY_ALLOWED_ORIGINS` here, the public address included; {_PASTE}.",
)
PREAUTH_LIMIT: Final = Cause(
    known.PREAUTH_LIMIT,
    "some admitted clients are told to retry; `503` of OpenClaw in `upstream.lost`",
    "OpenClaw refused sockets, because one address had too many that were not connected yet: it"
    " takes 32, and each gateway replica opens up to 4.",
    "Set the variable `OPENCLAW_MAX_PREAUTH_CONNECTIONS_PER_IP` of OpenClaw to more than 4 times"
    " the number of gateway replicas, and restart it.",
)
CLOCK: Final = Cause(
    known.CLOCK,
    "admitted clients are told to retry, close code 1013 `gateway starting`",
    "The clocks of OpenClaw and a gateway differ by more than two minutes, so that no client's"
    " signature would be valid at both.",
    "Set both machines by NTP, and restart OpenClaw if its machine was asleep.",
)
REFUSES: Final = Cause(
    known.REFUSES,
    "admitted clients are told to retry, close code 1013 `gateway starting`",
    "OpenClaw answers, and refuses the gateways for a reason that has no row here.",
    "Look at OpenClaw's log for `unauthorized`, and run `openclaw doctor` there.",
)

ALL: Final = tuple(value for value in tuple(globals().values()) if isinstance(value, Cause))
BY_ID: Final = {cause.id: cause for cause in ALL}
