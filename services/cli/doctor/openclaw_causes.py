"""Causes at a plain OpenClaw gateway: the commands are those of its releases. Pure.

`tools/interop/doctor` runs the commands against a real gateway.
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
    "A proxy adds forwarding headers. OpenClaw has not been told to trust that proxy, so it refuses"
    " everything that comes through it.",
    "Look in the gateway's log for `observed unattributable proxy-shaped traffic from ADDRESS`."
    f" {_THERE}: `openclaw config set gateway.trustedProxies '[\"ADDRESS\"]'`, and restart the"
    " gateway if the command says so. A range such as `10.0.0.0/8` works too.",
)
STARTING: Final = Cause(
    "openclaw-starting",
    "`gateway starting; retry shortly`, close code 1013; `/readyz` 503",
    "OpenClaw runs and is not ready: it is starting, or about to stop.",
    "Run this again in a minute. If it stays, look at the gateway's log.",
)
TOO_MANY_SOCKETS: Final = Cause(
    "openclaw-too-many-sockets",
    "`503 Too many unauthenticated sockets`",
    "So many connections from this address have not been admitted yet that OpenClaw takes no more:"
    " a client that retries in a loop, or many clients behind one address.",
    "Stop the client that loops, and wait 15 s. If a proxy is in front, set"
    " `gateway.trustedProxies`, or all clients count as one address."
    " `OPENCLAW_MAX_PREAUTH_CONNECTIONS_PER_IP` of the deployment raises the limit.",
)
ORIGIN_REFUSED: Final = Cause(
    "openclaw-origin-refused",
    "close code 1008 `origin not allowed (… or allow it in gateway.controlUi.allowedOrigins)`",
    "The gateway refuses pages of this address, so the dashboard cannot connect from there.",
    f"{_THERE}: `openclaw config set gateway.controlUi.allowedOrigins '[\"{{origin}}\"]'`. That"
    " replaces the list: add the origins that are in it already. Restart the gateway if the command"
    " says so.",
)
TOKEN_MISSING: Final = Cause(
    "openclaw-token-missing",
    "`unauthorized: gateway token missing`",
    "OpenClaw wants its gateway token first, and this command has none to offer. Without it nothing"
    " further can be checked.",
    "Set `OPENCLAW_GATEWAY_TOKEN` here to the variable of the same name of the deployment, or to"
    " `gateway.auth.token` of its openclaw.json. Current releases print it on the gateway's"
    " machine: `openclaw gateway auth-token --show`.",
)
TOKEN_WRONG: Final = Cause(
    "openclaw-token-wrong",
    "`unauthorized: gateway token mismatch`",
    "The gateway has another token than the one that was offered.",
    "Take the value of the deployment's `OPENCLAW_GATEWAY_TOKEN`, or `gateway.auth.token` of its"
    " openclaw.json, without quotes and blanks. If only some connections fail, the replicas have"
    " different values.",
)
PASSWORD_WANTED: Final = Cause(
    "openclaw-password-wanted",
    "`unauthorized: gateway password missing`, `gateway password mismatch`",
    "This gateway takes a password instead of a token (`gateway.auth.mode` is `password`), and the"
    " right one was not offered.",
    "Set `OPENCLAW_GATEWAY_PASSWORD` here to the gateway's. The OpenClaw command takes it as"
    " `--password`.",
)
LOGIN_BY_PROXY: Final = Cause(
    "openclaw-login-by-proxy",
    "`unauthorized`, with `trusted_proxy_…` or `AUTH_TAILSCALE_…` in the details",
    "This gateway takes identities from a login proxy or from Tailscale, so a token is not enough"
    " and this command cannot pass.",
    "Connect through that proxy. The setting is `gateway.auth.mode`:"
    " `openclaw config get gateway.auth.mode`.",
)
LOCKED_OUT: Final = Cause(
    "openclaw-locked-out",
    "`unauthorized: too many failed authentication attempts (retry later)`",
    "Too many wrong tokens or passwords came from this address; a right one is refused as well"
    " for now.",
    "Stop the client that has the old token, and wait {wait}. If a proxy is in front, set"
    " `gateway.trustedProxies`, or all clients count as one address.",
)
SEPARATE_LISTS: Final = Cause(
    "openclaw-separate-lists",
    "`pairing required` again and again from a device that was approved; every other connect fails",
    "Several OpenClaw processes answer at this address, and each keeps its own device list: an"
    " approval counts only at the one where it was given.",
    "Run one replica, with its state on a volume: OpenClaw cannot share one state directory between"
    " gateways. If you need more replicas, Latchkey keeps one list for all of them.",
)
PAIRING_REQUIRED: Final = Cause(
    "openclaw-pairing-required",
    "close code 1008 `pairing required: device is not approved yet (requestId: …)`",
    "A person has to approve this device, within five minutes of its last attempt.",
    f"{_THERE}: `openclaw devices list`, then `openclaw devices approve {{request_id}}`. In current"
    " releases `--latest` approves nothing: it prints the command that does.",
)
UPGRADE_PENDING: Final = Cause(
    "openclaw-upgrade-pending",
    "`pairing required: device is asking for more scopes than currently approved`, `… a higher"
    " role …`, `device identity changed`",
    "The device is paired and now asks for something that was not approved.",
    f"{_THERE}: compare what was requested with what is approved in `openclaw devices list`, then"
    " `openclaw devices approve {request_id}`; or let the device ask for less.",
)
DEVICE_FORGOTTEN: Final = Cause(
    "openclaw-device-forgotten",
    "`pairing required` or `device token mismatch` from a device that was paired, often after a"
    " deploy",
    "This device holds a token of this gateway, and the gateway does not know it any more: it was"
    " removed, or the gateway lost its state, as happens at each deploy without a volume.",
    "Put the state on a volume (Railway: a volume at `/data` and"
    " `OPENCLAW_STATE_DIR=/data/.openclaw`), then approve the device again: `openclaw devices"
    " list`, `openclaw devices approve REQUEST-ID`.",
)
REFUSED: Final = Cause(
    "openclaw-refused",
    "an error of the gateway that has no row here",
    "OpenClaw refuses the connection for the reason that it names.",
    f"{_THERE}: `openclaw doctor` checks its settings; the gateway's log says more.",
)

ALL: Final = tuple(value for value in tuple(globals().values()) if isinstance(value, Cause))
