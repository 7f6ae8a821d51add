"""Why a device does not get in: what one sees, what it means, what to do. Pure.

`docs/troubleshooting.md` holds the same rows, in this order. What stands in braces is filled in by
the doctor. The rows that apply to plain OpenClaw only are in `openclaw_causes`.
"""

from __future__ import annotations

from typing import Final

from services.cli.doctor import openclaw_causes
from services.cli.doctor.cause import Cause

# The way to the address.

NAME_UNKNOWN: Final = Cause(
    "name-unknown",
    "`ENOTFOUND`, `Could not resolve host`; the dashboard does not load",
    "No address is known for this name.",
    "Check the spelling. For a domain of your own, add the DNS record that your host asks for, and"
    " wait until it has spread: `dig {name}`.",
)
TCP_REFUSED: Final = Cause(
    "tcp-refused",
    "`ECONNREFUSED`, `Gateway not reachable`",
    "The machine is there, and nothing listens on this port.",
    "Start the gateway and check its port. In a container it has to listen on all addresses:"
    " `HOST=0.0.0.0,::` with Latchkey, `gateway.bind` `lan` with OpenClaw.",
)
TCP_SILENT: Final = Cause(
    "tcp-silent",
    "`ETIMEDOUT`; the dashboard loads for ever",
    "Nothing comes back from this address: a firewall, or a private address seen from outside.",
    "Open port {port_number} in the firewall, or use the public address.",
)
TLS_UNTRUSTED: Final = Cause(
    "tls-untrusted",
    "`self-signed certificate`, `unable to get local issuer certificate`; the browser warns",
    "Nobody whom this machine trusts vouches for the certificate.",
    "Use a certificate of a public authority, with its whole chain; or let clients trust your own:"
    " `NODE_EXTRA_CA_CERTS=ca.pem` for OpenClaw, `SSL_CERT_FILE=ca.pem` for this command.",
)
TLS_EXPIRED: Final = Cause(
    "tls-expired",
    "`certificate has expired`; the browser warns",
    "The certificate is not valid today, or the clock of this machine is wrong.",
    "Renew the certificate at the proxy and reload it; check this machine's clock: `date`.",
)
TLS_ENDS_SOON: Final = Cause(
    "tls-ends-soon",
    "nothing yet",
    "The certificate ends within two weeks, and has not been renewed.",
    "Look at what renews it; after that day nobody gets in.",
)
TLS_OTHER_NAME: Final = Cause(
    "tls-other-name",
    "`Hostname/IP does not match certificate's altnames`; the browser warns",
    "The certificate is for another name.",
    "Use the name that the certificate is for, or get one for {name}.",
)
TLS_NOT_SPOKEN: Final = Cause(
    "tls-not-spoken",
    "`wrong version number`, `EPROTO`, `ERR_SSL_PROTOCOL_ERROR`",
    "This port does not speak TLS: the gateway itself never does, a proxy before it has to.",
    "Ask the proxy's port, mostly 443; on the gateway's own machine use {plain_url}.",
)
TLS_WANTED: Final = Cause(
    "tls-wanted",
    "`socket hang up`, `400 The plain HTTP request was sent to HTTPS port`",
    "This port speaks TLS, and was spoken to in the clear.",
    "Use {tls_url}.",
)

# HTTP and the proxy.

NOT_HTTP: Final = Cause(
    "not-http",
    "`socket hang up`, `Parse Error`, `ERR_INVALID_HTTP_RESPONSE`",
    "Something listens there that does not speak HTTP: a database, another service, a TCP proxy"
    " to the wrong port.",
    "Check host and port. A proxy has to lead to the gateway's port: `PORT` with Latchkey,"
    " `OPENCLAW_GATEWAY_PORT` with OpenClaw.",
)
HTTP_SILENT: Final = Cause(
    "http-silent",
    "the dashboard loads for ever; `504` after a minute",
    "The connection stands, and no answer comes: the process behind it hangs or is stopped.",
    "Look at the gateway's log and its processor; restart it if it says nothing more.",
)
REDIRECTED: Final = Cause(
    "redirected",
    "`Unexpected server response: 301`, `302`, `308`",
    "This address sends everybody elsewhere, and WebSocket clients do not follow.",
    "Use the address it leads to: {location}",
)
PROXY_ALONE: Final = Cause(
    "proxy-alone",
    "`502 Bad Gateway`, `503`, `504`, `Application failed to respond`",
    "A proxy answers, and reaches no gateway behind it.",
    "Is a gateway running and ready (`/readyz`)? Does the proxy lead to its port (`PORT` with"
    " Latchkey, `OPENCLAW_GATEWAY_PORT` with OpenClaw)? Does it listen on all addresses"
    " (`HOST=0.0.0.0,::`; with OpenClaw `gateway.bind` `lan`)?",
)
LOGIN_REQUIRED: Final = Cause(
    "login-required",
    "`401 Unauthorized`, `407`; the browser asks for a user name and a password, or is sent to a"
    " login page",
    "A proxy in front of the gateway asks for a login of its own, which WebSocket clients do not"
    " have.",
    "Switch the proxy's login off for this host: the gateway does its own checks. nginx:"
    " `auth_basic off;`.",
)
FORBIDDEN: Final = Cause(
    "forbidden",
    "`403` or `429` instead of a WebSocket; a challenge page for browsers",
    "A firewall or a protection against robots in front of the gateway refuses the request; it did"
    " not reach the gateway.",
    "Let WebSocket upgrades pass, at least for this host; on Railway switch Under Attack Mode off,"
    " which blocks everything but browsers; on Cloudflare add a rule that skips the challenge.",
)
ANOTHER_SERVER: Final = Cause(
    "another-server",
    "`404`, or a page that is not the gateway's; `Unexpected server response: 200`",
    "HTTP works, but what answers is neither Latchkey nor OpenClaw.",
    "Check host, port and path. Behind a proxy, check which service this host and path lead to; on"
    " Railway `404 Application not found` means that no service has this domain.",
)
APPROVAL_ADDRESS: Final = Cause(
    "approval-address",
    "`Unexpected server response: 401` or `404`; a page for operators",
    "This is the approval service, where people approve; devices connect to a gateway.",
    "Use the gateway's address (`GATEWAY_PUBLIC_URL`); `make run` starts gateways on"
    " ws://127.0.0.1:18789.",
)
UPGRADE_DROPPED: Final = Cause(
    "upgrade-dropped",
    "`Unexpected server response: 200`, `400` or `426`; the dashboard loads and stays offline",
    "Requests come through, and the upgrade to a WebSocket does not: the proxy drops the header"
    " `Upgrade`, or speaks HTTP/2 to the gateway.",
    "Let the proxy pass WebSockets over HTTP/1.1; nginx: `proxy_http_version 1.1;"
    ' proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";`.',
)
TOO_MANY_SOCKETS: Final = Cause(
    "too-many-sockets",
    "`503 Too many unauthenticated sockets`",
    "So many sockets from this address have not been let in yet that no more are taken: a client"
    " that retries in a loop, or many clients behind one address.",
    "Wait 15 s. Behind a proxy set `TRUSTED_PROXIES`, or all clients count as one; else stop the"
    " client that loops, or raise `GATEWAY_PREAUTH_LIMIT_PER_ADDRESS`.",
)
FULL: Final = Cause(
    "full",
    "`503 Too many connections`",
    "This replica holds as many connections as it may.",
    "Add a replica, or raise `GATEWAY_CONNECTION_LIMIT` and `ulimit -n`.",
)

# The WebSocket.

NO_CHALLENGE: Final = Cause(
    "no-challenge",
    "`connect challenge timeout`; the dashboard says Connecting for ever",
    "The WebSocket opens, and the gateway's first frame does not arrive: a proxy that holds frames"
    " back, or a server that is no gateway.",
    "Switch buffering off for this host at the proxy (nginx: `proxy_buffering off;`); check that a"
    " gateway is behind it.",
)
NOT_A_GATEWAY: Final = Cause(
    "not-a-gateway",
    "`invalid connect.challenge`, close code 1002",
    "A WebSocket server answers that does not speak the gateway's protocol.",
    "Check host, port and path; behind a proxy, check to which service they lead.",
)
CUT: Final = Cause(
    "cut",
    "close code 1006; `socket hang up` in the middle",
    "The connection was cut without a word: by a proxy, the network, or a process that ended.",
    "Run this again. If it stays, look at the proxy's log at this moment, and at the gateway's for"
    " a restart or too little memory.",
)
PINGS_SWALLOWED: Final = Cause(
    "pings-swallowed",
    "connections that end after 25 to 60 s, close code 1006 or 4000 `tick timeout`",
    "WebSocket pings are not answered through this way: a proxy takes the control frames away, so"
    " that both ends think the other is gone.",
    "Let the proxy pass WebSocket frames untouched (a plain tunnel after the upgrade); switch off"
    " what inspects them.",
)
CLOCK_DIFFERS: Final = Cause(
    "clock-differs",
    "`device signature expired`, from clients that sign with their own clock",
    "The clocks of this machine and of the gateway differ by more than the two minutes that a"
    " signature may be old.",
    "Set the clock that is wrong: `timedatectl set-ntp true`; in a virtual machine after a sleep,"
    " restart it.",
)

# Who may connect.

PROTOCOL_MISMATCH: Final = Cause(
    "protocol-mismatch",
    "close code 1002 `protocol mismatch`",
    "Client and gateway have no version of the protocol in common; Latchkey and this command speak"
    " 3 and 4.",
    "Update the older of the two.",
)
ORIGIN_REFUSED: Final = Cause(
    "origin-refused",
    "close code 1008 `origin not allowed (open the Control UI from the gateway host …)`",
    "The gateway does not let pages of this address connect.",
    "Set at the gateways `GATEWAY_ALLOWED_ORIGINS={origin}`, exactly as the browser's address bar"
    " has it, and restart them.",
)
INSECURE_PAGE: Final = Cause(
    "insecure-page",
    "`control ui requires device identity (use HTTPS or localhost secure context)`",
    "The dashboard came without a device: browsers give a page a key only over https or on"
    " localhost.",
    "Open the dashboard over https, or through a tunnel: `ssh -L 18789:127.0.0.1:18789 HOST`, then"
    " http://localhost:18789.",
)
TOKEN_MISSING: Final = Cause(
    "token-missing",
    "close code 1008 `unauthorized: gateway token missing`; `This Gateway expects its token`",
    "The client brings no gateway token, and no device token either.",
    "Give it the gateway's `OPENCLAW_GATEWAY_TOKEN`: in the dashboard's settings, as `--token`, or"
    " in the environment. This command takes it from the environment or from .data/secrets.env.",
)
TOKEN_WRONG: Final = Cause(
    "token-wrong",
    "close code 1008 `unauthorized: gateway token mismatch`",
    "The client brings another token than the gateways have.",
    "Take the first value of the gateways' `OPENCLAW_GATEWAY_TOKEN`, without quotes and blanks; if"
    " only some connects fail, the replicas have different values: give all the same one.",
)
LOCKED_OUT: Final = Cause(
    "locked-out",
    "`unauthorized: too many failed authentication attempts (retry later)`",
    "Ten different wrong secrets came from this address within a minute, so it is locked out for"
    " five: a right one does not count either.",
    "Stop the clients that come with old tokens, and wait {wait}, or lift it: `{latchkey} lockouts"
    " lift ADDRESS`. Behind a proxy set `TRUSTED_PROXIES`, or all clients count as one.",
)
PROOF_REFUSED: Final = Cause(
    "proof-refused",
    "`device identity mismatch`, `device nonce mismatch`, `device signature invalid`",
    "The device's proof does not hold: its key file is damaged, belongs to another device, or"
    " something on the way changes frames.",
    "Remove the client's stored device identity, so that it makes a new one, and approve that;"
    " switch off what rewrites frames on the way.",
)
SIGNATURE_STALE: Final = Cause(
    "signature-stale",
    "`device signature expired`",
    "More than two minutes lie between a signature and the gateway's clock.",
    "Set the clocks of the client and of the gateway (`timedatectl set-ntp true`); look for a proxy"
    " that holds frames back.",
)
DEVICE_TOKEN_VOID: Final = Cause(
    "device-token-void",
    "`unauthorized: device token mismatch (rotate/reissue device token)`",
    "The device's own token was rotated or revoked, or the device was removed.",
    "Let it connect with the gateway token once more; it gets a new token, or asks for approval.",
)
PAIRING_REQUIRED: Final = Cause(
    "pairing-required",
    "close code 1008 `pairing required: device is not approved yet`; `Approve this browser`",
    "Everything works, and a person has to say yes to this device, once for all replicas.",
    "`{latchkey} devices approve {request_id}`, or Manage Devices (`/setup` of the approval"
    " service). Protocol 4's dashboard then connects by itself, protocol 3's has to be loaded anew;"
    " run a command again.",
)
SCOPES_PENDING: Final = Cause(
    "scopes-pending",
    "`pairing required: device is asking for more scopes than currently approved`",
    "The device is paired, and now asks to be allowed more.",
    "Look at what it asks for, and approve it: `{latchkey} devices approve {request_id}`; or let it"
    " ask for less.",
)
ROLE_PENDING: Final = Cause(
    "role-pending",
    "`pairing required: device is asking for a higher role than currently approved`",
    "The device is paired, but not in this role, or the role's token was revoked.",
    "Look at what it asks for, and approve it: `{latchkey} devices approve {request_id}`.",
)
DETAILS_PENDING: Final = Cause(
    "details-pending",
    "`pairing required: device identity changed and must be re-approved`",
    "The device is paired as one of another platform: its system changed, or its key was copied.",
    "If you know why, approve it again: `{latchkey} devices approve {request_id}`; if not, remove"
    " it: `{latchkey} devices remove {device_id}`.",
)
PENDING_FULL: Final = Cause(
    "pending-full",
    "close code 1013 `approval unavailable`, reason `pending-limit`",
    "Too many requests wait already, in all or from this address, so that no new one is kept.",
    "Approve or reject what waits (`{latchkey} devices list`), or raise `PENDING_LIMIT` and"
    " `PENDING_LIMIT_PER_ADDRESS`.",
)

# What is behind the gateway.

REDIS_AWAY: Final = Cause(
    "redis-away",
    "close code 1013 `redis unavailable`; `/readyz` 503 with `redis` in `failing`",
    "The gateway does not reach Redis. Nobody has to approve anything again.",
    "Is Redis running? Check the gateways' `REDIS_URL`: host, port, password and user; the log"
    " event `bus_lost` has the reason.",
)
APPROVAL_AWAY: Final = Cause(
    "approval-away",
    "close code 1013 `approval unavailable`; `/readyz` 503 with `approval` in `failing`",
    "The gateway hears no approval service. Nobody has to approve anything again.",
    "Start the approval service and look at its `/readyz`; it has to use the same Redis as the"
    " gateways.",
)
BUS_SECRETS_DIFFER: Final = Cause(
    "bus-secrets-differ",
    "close code 1013 `approval unavailable`, while approval's `/readyz` is 200",
    "Gateway and approval are both well and do not hear each other.",
    "Give all of them the same `BUS_SECRET` and the same Redis in `REDIS_URL`, and restart those"
    " that had another.",
)
NOT_READY: Final = Cause(
    "not-ready",
    "close code 1013; `/readyz` 503",
    "The gateway misses something it depends on: {failing}.",
    "Look at `/readyz` on its `OPS_PORT` for the reason; it comes back by itself once that"
    " is there.",
)
NO_ANSWER: Final = Cause(
    "no-answer",
    "close code 1013 `approval unavailable`, now and then",
    "Approval did not answer this one question in time, or has too much to do.",
    "Run this again. If it happens often, add an approval replica, and look at"
    " `latchkey_gateway_beat_seconds` and at Redis.",
)
REPLICAS_DISAGREE: Final = Cause(
    "replicas-disagree",
    "every other connect fails",
    "Some connections are answered otherwise than the others: a replica is down, old, or has other"
    " settings, and the proxy still leads to it.",
    "Compare `/readyz`, release and settings of all gateway replicas; restart those that differ;"
    " let the proxy ask `/readyz`.",
)
PROXY_UNTRUSTED: Final = Cause(
    "proxy-untrusted",
    "all devices show the proxy's address; lock-outs hit everybody at once",
    "A proxy tells the gateway where its clients come from, and is not believed.",
    "If {peer} is your proxy, set at the gateways and at approval `TRUSTED_PROXIES={peer}`; a range"
    " such as `10.0.0.0/8` holds when its address changes.",
)
PROXY_UNREADABLE: Final = Cause(
    "proxy-unreadable",
    "all devices show the proxy's address, though it is in `TRUSTED_PROXIES`",
    "A trusted proxy names its clients, but not by an address, so that all of them count as the"
    " proxy.",
    "Let {peer} send the address of its client in `X-Forwarded-For` or `X-Real-IP`; the log event"
    " `proxy.unreadable` shows what it sends.",
)
APPROVAL_UNREACHABLE: Final = Cause(
    "approval-unreachable",
    "`approval does not answer`, exit code 3 of this command",
    "The approval service that `APPROVAL_URL` names is not reached from here.",
    "Set `APPROVAL_URL` to its address, and check that it runs: `curl $APPROVAL_URL/readyz`.",
)
ADMIN_TOKEN_WRONG: Final = Cause(
    "admin-token-wrong",
    "401 or 429 of the HTTP API, exit code 4 of this command",
    "Approval does not take the `APPROVAL_ADMIN_TOKEN` of this shell, or takes none from here now.",
    "Use the value that the approval service runs with; after ten wrong ones wait five minutes.",
)
APPROVAL_NOT_READY: Final = Cause(
    "approval-not-ready",
    "approval's `/readyz` 503",
    "The approval service does not reach Redis, or may not write to it: {failing}.",
    "Check its `REDIS_URL`, that Redis runs, and that its disk is not full; the user needs the"
    " rights in deploy/users-6.acl.",
)
APPENDONLY_OFF: Final = Cause(
    "appendonly-off",
    "devices have to be approved again after a restart of Redis",
    "Redis keeps its data in memory only.",
    "Start Redis with `appendonly yes` and `appendfsync always` (deploy/redis.conf), on a volume.",
)
WRITES_LATE: Final = Cause(
    "writes-late",
    "the last second's approvals are gone after a power cut",
    "Redis answers before what it was told is on the disk.",
    "Set `appendfsync always` in Redis, in its file and now: `redis-cli CONFIG SET appendfsync"
    " always`.",
)
MEMORY_EVICTS: Final = Cause(
    "memory-evicts",
    "single devices have to be approved again, at random",
    "Redis throws records away when its memory is full.",
    "Set `maxmemory-policy noeviction` in Redis: `redis-cli CONFIG SET maxmemory-policy"
    " noeviction`.",
)
DRAINING_OFF: Final = Cause(
    "draining-off",
    "close code 1006 at every deploy, all at once",
    "Railway kills the old replicas before they have told their clients to come back.",
    "Set the service variable `RAILWAY_DEPLOYMENT_DRAINING_SECONDS={seconds}`.",
)

ALL: Final = (
    *(value for value in tuple(globals().values()) if isinstance(value, Cause)),
    *openclaw_causes.ALL,
)
