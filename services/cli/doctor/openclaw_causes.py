"""Causes that apply to plain OpenClaw gateways, with OpenClaw's commands as remedies. Pure.

`tools/interop/doctor` runs these commands against a real gateway.
"""

from __future__ import annotations

from typing import Final

from services.cli.doctor.cause import Cause

_THERE: Final = (
    "On the gateway's machine (`railway ssh`, `docker compose exec openclaw-gateway bash`)"
)

PROXY_UNTRUSTED: Final = Cause(
    "openclaw-proxy-untrusted",
    "`403` with `proxy_attribution_required`; in the gateway's log `observed unattributable"
    " proxy-shaped traffic from ADDRESS`",
    "A proxy adds forwarding headers. OpenClaw is not configured to trust that proxy, so it refuses"
    " all requests that come through it.",
    "Look in the gateway's log for `observed unattributable proxy-shaped traffic from ADDRESS`."
    f" {_THERE}: `openclaw config set gateway.trustedProxies '[\"ADDRESS\"]'`, and restart the"
    " gateway if the command says so. A range such as `10.0.0.0/8` works too.",
)
STARTING: Final = Cause(
    "openclaw-starting",
    "`gateway starting; retry shortly`, close code 1013; `/readyz` 503",
    "OpenClaw is running but not ready: it is starting or shutting down.",
    "Run this again in a minute. If it persists, check the gateway's log.",
)
TOO_MANY_SOCKETS: Final = Cause(
    "openclaw-too-many-sockets",
    "`503 Too many unauthenticated sockets`",
    "Too many connections from this address are not authenticated yet: a client retries in a loop,"
    " or many clients share one address.",
    "Stop the client that loops, and wait 15 s. If a proxy is in front, set"
    " `gateway.trustedProxies`; otherwise all clients count as one address."
    " `OPENCLAW_MAX_PREAUTH_CONNECTIONS_PER_IP` in the deployment raises the limit.",
)
ORIGIN_REFUSED: Final = Cause(
    "openclaw-origin-refused",
    "close code 1008 `origin not allowed (… or allow it in gateway.controlUi.allowedOrigins)`",
    "The gateway refuses pages from this origin, so the dashboard cannot connect from there.",
    f"{_THERE}: `openclaw config set gateway.controlUi.allowedOrigins '[\"{{origin}}\"]'`. That"
    " replaces the list: include the origins already in it. Restart the gateway if the command"
    " says so.",
)
TOKEN_MISSING: Final = Cause(
    "openclaw-token-missing",
    "`unauthorized: gateway token missing`",
    "OpenClaw requires its gateway token first, and this command has none. Nothing further can be"
    " checked without it.",
    "Set `OPENCLAW_GATEWAY_TOKEN` here to the deployment's variable of the same name, or to"
    " `gateway.auth.token` in its openclaw.json. Current releases print it on the gateway's"
    " machine: `openclaw gateway auth-token --show`.",
)
TOKEN_WRONG: Final = Cause(
    "openclaw-token-wrong",
    "`unauthorized: gateway token mismatch`",
    "The token that was sent differs from the gateway's token.",
    "Use the value of the deployment's `OPENCLAW_GATEWAY_TOKEN`, or `gateway.auth.token` in its"
    " openclaw.json, without quotes or spaces. If only some connections fail, the replicas have"
    " different values.",
)
PASSWORD_WANTED: Final = Cause(
    "openclaw-password-wanted",
    "`unauthorized: gateway password missing`, `gateway password mismatch`",
    "This gateway requires a password instead of a token (`gateway.auth.mode` is `password`), and"
    " the correct one was not sent.",
    "Set `OPENCLAW_GATEWAY_PASSWORD` here to the gateway's password. OpenClaw's command takes it as"
    " `--password`.",
)
LOGIN_BY_PROXY: Final = Cause(
    "openclaw-login-by-proxy",
    "`unauthorized`, with `trusted_proxy_…` or `AUTH_TAILSCALE_…` in the details",
    "This gateway gets identities from a login proxy or from Tailscale. A token is not enough, so"
    " this command cannot connect.",
    "Connect through that proxy. The setting is `gateway.auth.mode`:"
    " `openclaw config get gateway.auth.mode`.",
)
LOCKED_OUT: Final = Cause(
    "openclaw-locked-out",
    "`unauthorized: too many failed authentication attempts (retry later)`",
    "Too many wrong tokens or passwords came from this address; correct ones are rejected as well"
    " for now.",
    "Stop the client that uses the old token, and wait {wait}. If a proxy is in front, set"
    " `gateway.trustedProxies`; otherwise all clients count as one address.",
)
SEPARATE_LISTS: Final = Cause(
    "openclaw-separate-lists",
    "`pairing required` again and again from a device that was approved; every other connection"
    " fails",
    "Several OpenClaw processes answer at this address, and each keeps its own device list: an"
    " approval applies only to the process that received it.",
    "Run one replica, with its state on a volume: OpenClaw cannot share one state directory between"
    " gateways. If you need more replicas, Latchkey keeps one list for all of them.",
)
PAIRING_REQUIRED: Final = Cause(
    "openclaw-pairing-required",
    "close code 1008 `pairing required: device is not approved yet (requestId: …)`",
    "An operator has to approve this device within five minutes of its last attempt.",
    f"{_THERE}: `openclaw devices list`, then `openclaw devices approve {{request_id}}`. In current"
    " releases `--latest` approves nothing: it prints the command that does.",
)
UPGRADE_PENDING: Final = Cause(
    "openclaw-upgrade-pending",
    "`pairing required: device is asking for more scopes than currently approved`, `… a higher"
    " role …`, `device identity changed`",
    "The device is paired and now requests something that was not approved.",
    f"{_THERE}: compare what was requested with what is approved in `openclaw devices list`, then"
    " `openclaw devices approve {request_id}`; or let the device request less.",
)
DEVICE_FORGOTTEN: Final = Cause(
    "openclaw-device-forgotten",
    "`pairing required` or `device token mismatch` from a device that was paired, often after a"
    " deploy",
    "This device has a token for this gateway, but the gateway no longer knows the device: it was"
    " removed, or the gateway lost its state, as happens at each deploy without a volume.",
    "Put the state on a volume (Railway: a volume at `/data` and"
    " `OPENCLAW_STATE_DIR=/data/.openclaw`), then approve the device again: `openclaw devices"
    " list`, `openclaw devices approve REQUEST-ID`.",
)
REFUSED: Final = Cause(
    "openclaw-refused",
    "a gateway error that is not in this table",
    "OpenClaw refuses the connection for the reason it gives.",
    f"{_THERE}: `openclaw doctor` checks its settings; the gateway's log has the details.",
)

ALL: Final = tuple(value for value in tuple(globals().values()) if isinstance(value, Cause))
