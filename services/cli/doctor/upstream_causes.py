"""Problems of the OpenClaw gateway behind Latchkey that gateways detect. Pure.

Each cause has the name that gateways report (shared.upstream.PROBLEMS).
"""

from __future__ import annotations

from typing import Final

from services.cli.doctor.cause import Cause
from shared import upstream as known

_PASTE: Final = "`{latchkey} upstream config` prints the right configuration"

UNREACHABLE: Final = Cause(
    known.UNREACHABLE,
    "the dashboard's page says that OpenClaw cannot be reached; close code 1013 `gateway starting`",
    "The OpenClaw behind the gateways does not answer: {reason}. Pairing works without it.",
    "If OpenClaw is restarting or reloading its configuration, wait: gateways notice within 5 s"
    " when it answers again. If it does not, look at its log, and restart it if it hangs; with an"
    " invalid configuration it does not start. If it is running, or gateways never reached it,"
    " check `UPSTREAM_URL`, and that OpenClaw listens on a private address"
    ' (`gateway.bind: "lan"`; `loopback` only if all gateways run on its machine).',
)
NO_OPENCLAW: Final = Cause(
    known.NO_OPENCLAW,
    "the dashboard's page says that OpenClaw cannot be reached",
    "The server at `UPSTREAM_URL` is not an OpenClaw gateway.",
    "Check host, port and path of `UPSTREAM_URL`: OpenClaw's port is 18789 unless it was changed.",
)
PROXY_NOT_TRUSTED: Final = Cause(
    known.PROXY_NOT_TRUSTED,
    "`403` with `proxy_attribution_required`; in OpenClaw's log `observed unattributable"
    " proxy-shaped traffic from ADDRESS`",
    "OpenClaw does not trust the address from which a gateway connects.",
    "Put the addresses of all gateway replicas into `gateway.trustedProxies`, as a range if they"
    f" change; {_PASTE}.",
)
LOOPBACK: Final = Cause(
    known.LOOPBACK,
    "in OpenClaw's log `reason=trusted_proxy_loopback_source`",
    "A gateway and OpenClaw run on one machine, and OpenClaw accepts no proxies from there.",
    "Set `gateway.auth.trustedProxy.allowLoopback: true`, if only people you trust have an account"
    " on that machine; otherwise run them on separate machines.",
)
AUTH_MODE: Final = Cause(
    known.AUTH_MODE,
    "in OpenClaw's log `reason=token_missing`, `token_mismatch` or `password_mismatch`",
    "OpenClaw does not accept users from Latchkey: `gateway.auth.mode` is not `trusted-proxy`.",
    f'Set `gateway.auth.mode: "trusted-proxy"` and the settings that belong to it; {_PASTE}.',
)
OWN_TOKEN: Final = Cause(
    known.OWN_TOKEN,
    "OpenClaw does not start, or accepts its own token besides Latchkey's users",
    "OpenClaw has a gateway token of its own, which is incompatible with `trusted-proxy`.",
    "Remove `gateway.auth.token` (`openclaw config unset gateway.auth.token`) and the variable"
    " `OPENCLAW_GATEWAY_TOKEN` there. Devices present the token of Latchkey's gateways.",
)
HEADERS: Final = Cause(
    known.HEADERS,
    "in OpenClaw's log `reason=trusted_proxy_user_missing` or `trusted_proxy_missing_header_…`",
    "OpenClaw expects headers other than those that gateways send; their names are derived from"
    " `UPSTREAM_SECRET`.",
    "After a change of `UPSTREAM_SECRET`, update `userHeader` and `requiredHeaders` in"
    f" `gateway.auth.trustedProxy`; {_PASTE}.",
)
ALLOW_USERS: Final = Cause(
    known.ALLOW_USERS,
    "in OpenClaw's log `reason=trusted_proxy_user_not_allowed`",
    "`gateway.auth.trustedProxy.allowUsers` does not list exactly Latchkey's three users.",
    f"Set it to `latchkey`, `latchkey-relay` and `latchkey-cli`; {_PASTE}.",
)
RELAY_RIGHTS: Final = Cause(
    known.RELAY_RIGHTS,
    "admitted devices are told to retry repeatedly, close code 1013 `gateway starting`",
    "Latchkey may not approve devices at OpenClaw: its user `latchkey-relay` lacks scopes there.",
    "Give `latchkey-relay` the scopes `operator.admin` and `operator.pairing` in"
    f" `gateway.auth.identityScopes`; {_PASTE}.",
)
CLIENT_RIGHTS: Final = Cause(
    known.CLIENT_RIGHTS,
    "no symptoms: every device may do more than was approved",
    "OpenClaw grants scopes to the user `latchkey`; they are added to those of each device.",
    "Remove `latchkey` from `gateway.auth.identityScopes`.",
)
AUTO_APPROVES: Final = Cause(
    known.AUTO_APPROVES,
    "no symptoms: OpenClaw approves devices by itself",
    "OpenClaw is configured to approve devices, or to widen their scopes, without Latchkey.",
    "Set `gateway.auth.trustedProxy.deviceAutoApprove.enabled: false` and"
    " `gateway.nodes.pairing.autoApproveLocal: false`.",
)
ORIGINS: Final = Cause(
    known.ORIGINS,
    "the dashboard loads, but is refused (`origin not allowed`) or retries forever",
    "OpenClaw refuses pages that Latchkey allows to connect.",
    "List the same origins in OpenClaw's `gateway.controlUi.allowedOrigins` as in"
    f" `GATEWAY_ALLOWED_ORIGINS`, including the public address; {_PASTE}.",
)
PREAUTH_LIMIT: Final = Cause(
    known.PREAUTH_LIMIT,
    "some admitted clients are told to retry; `503` of OpenClaw in `upstream.lost`",
    "OpenClaw refused sockets because one address had too many unauthenticated ones: the default"
    " limit is 32, and each gateway replica opens up to 4.",
    "Set the variable `OPENCLAW_MAX_PREAUTH_CONNECTIONS_PER_IP` of OpenClaw to more than 4 times"
    " the number of gateway replicas, and restart it.",
)
CLOCK: Final = Cause(
    known.CLOCK,
    "admitted clients are told to retry, close code 1013 `gateway starting`",
    "The clocks of OpenClaw and a gateway differ by more than two minutes, so that no device's"
    " signature would be valid at both: {reason}. Command lines without a device connect.",
    "Synchronize both machines with NTP, and restart OpenClaw if its machine was suspended.",
)
REFUSES: Final = Cause(
    known.REFUSES,
    "admitted clients are told to retry, close code 1013 `gateway starting`",
    "OpenClaw refuses the gateways for a reason that this table does not list.",
    "Look at OpenClaw's log for `unauthorized`, and run `openclaw doctor` there.",
)

ALL: Final = tuple(value for value in tuple(globals().values()) if isinstance(value, Cause))
BY_ID: Final = {cause.id: cause for cause in ALL}
