"""Causes of failed connections: symptoms, meaning and remedy. Pure.

`make docs` lists them in docs/reference/causes.md in the order of declaration. The doctor fills in
the names in braces. Causes that apply only to plain OpenClaw are in `openclaw_causes`.
"""

from __future__ import annotations

from typing import Final

from services.cli.doctor import openclaw_causes, redis_causes, upstream_causes
from services.cli.doctor.cause import Cause

# Network: name, TCP and TLS.

NAME_UNKNOWN: Final = Cause(
    "name-unknown",
    "`ENOTFOUND`, `Could not resolve host`; the dashboard does not load",
    "DNS has no address for this name.",
    "Check the spelling. For your own domain, add the DNS record that your host requires and wait"
    " for it to propagate: `dig {name}`.",
)
TCP_REFUSED: Final = Cause(
    "tcp-refused",
    "`ECONNREFUSED`, `Gateway not reachable`",
    "The host responds, but nothing is listening on this port.",
    "Start the gateway and check its port. In a container it must listen on all addresses:"
    " `HOST=0.0.0.0,::` with Latchkey, `gateway.bind` `lan` with OpenClaw.",
)
TCP_SILENT: Final = Cause(
    "tcp-silent",
    "`ETIMEDOUT`; the dashboard never finishes loading",
    "This address does not respond: a firewall drops the traffic, or the address is private and"
    " you are outside its network.",
    "Open port {port_number} in the firewall, or use the public address.",
)
TLS_UNTRUSTED: Final = Cause(
    "tls-untrusted",
    "`self-signed certificate`, `unable to get local issuer certificate`; the browser warns",
    "The certificate is not signed by a trusted CA.",
    "Use a certificate from a public CA and serve its full chain, or make clients trust your own"
    " CA: `NODE_EXTRA_CA_CERTS=ca.pem` for OpenClaw, `SSL_CERT_FILE=ca.pem` for this command.",
)
TLS_EXPIRED: Final = Cause(
    "tls-expired",
    "`certificate has expired`; the browser warns",
    "The certificate has expired or is not valid yet, or this machine's clock is wrong.",
    "Renew the certificate and reload the proxy; check this machine's clock: `date`.",
)
TLS_ENDS_SOON: Final = Cause(
    "tls-ends-soon",
    "no symptoms yet",
    "The certificate expires within two weeks and has not been renewed.",
    "Check the automatic renewal. Once the certificate has expired, no client can connect.",
)
TLS_OTHER_NAME: Final = Cause(
    "tls-other-name",
    "`Hostname/IP does not match certificate's altnames`; the browser warns",
    "The certificate was issued for a different name.",
    "Connect to the name on the certificate, or get a certificate for {name}.",
)
TLS_NOT_SPOKEN: Final = Cause(
    "tls-not-spoken",
    "`wrong version number`, `EPROTO`, `ERR_SSL_PROTOCOL_ERROR`",
    "This port does not use TLS. The gateway never does; a proxy in front of it has to terminate"
    " TLS.",
    "Connect to the proxy's port, usually 443; on the gateway's own machine use {plain_url}.",
)
TLS_WANTED: Final = Cause(
    "tls-wanted",
    "`socket hang up`, `400 The plain HTTP request was sent to HTTPS port`",
    "This port requires TLS, and the connection was unencrypted.",
    "Use {tls_url}.",
)

# HTTP and proxies.

NOT_HTTP: Final = Cause(
    "not-http",
    "`socket hang up`, `Parse Error`, `ERR_INVALID_HTTP_RESPONSE`",
    "The service on this port does not speak HTTP: it is a database, another service, or a TCP"
    " proxy to the wrong port.",
    "Check host and port. A proxy must forward to the gateway's port: `PORT` with Latchkey,"
    " `OPENCLAW_GATEWAY_PORT` with OpenClaw.",
)
HTTP_SILENT: Final = Cause(
    "http-silent",
    "the dashboard never finishes loading; `504` after a minute",
    "The connection opens but no response arrives: the process behind it hangs or is suspended.",
    "Check the gateway's log and CPU usage; restart it if it has stopped logging.",
)
REDIRECTED: Final = Cause(
    "redirected",
    "`Unexpected server response: 301`, `302`, `308`",
    "This address redirects, and WebSocket clients do not follow redirects.",
    "Use the target of the redirect: {location}",
)
PROXY_ALONE: Final = Cause(
    "proxy-alone",
    "`502 Bad Gateway`, `503`, `504`, `Application failed to respond`",
    "A proxy answers but cannot reach a gateway behind it.",
    "Is a gateway running and ready (`/readyz`)? Does the proxy forward to its port (`PORT` with"
    " Latchkey, `OPENCLAW_GATEWAY_PORT` with OpenClaw)? Does the gateway listen on all addresses"
    " (`HOST=0.0.0.0,::`; with OpenClaw `gateway.bind` `lan`)?",
)
LOGIN_REQUIRED: Final = Cause(
    "login-required",
    "`401 Unauthorized`, `407`; the browser asks for a user name and password, or is redirected"
    " to a login page",
    "A proxy in front of the gateway requires a login of its own, which WebSocket clients cannot"
    " provide.",
    "Disable the proxy's login for this host: the gateway authenticates clients itself. nginx:"
    " `auth_basic off;`.",
)
FORBIDDEN: Final = Cause(
    "forbidden",
    "`403` or `429` instead of a WebSocket; a challenge page for browsers",
    "A firewall or bot protection in front of the gateway rejected the request; it did not reach"
    " the gateway.",
    "Allow WebSocket upgrades, at least for this host. On Railway, turn off Under Attack Mode,"
    " which blocks all clients except browsers; on Cloudflare, add a rule that skips the"
    " challenge.",
)
ANOTHER_SERVER: Final = Cause(
    "another-server",
    "`404`, or a page that is not the gateway's; `Unexpected server response: 200`",
    "HTTP works, but the server is neither Latchkey nor OpenClaw.",
    "Check host, port and path. Behind a proxy, check which service this host and path are routed"
    " to; on Railway, `404 Application not found` means that no service has this domain.",
)
APPROVAL_ADDRESS: Final = Cause(
    "approval-address",
    "`Unexpected server response: 401` or `404`; a page for operators",
    "This is the approval service, where operators approve devices; devices connect to a gateway.",
    "Use the gateway's address (`GATEWAY_PUBLIC_URL`); `make run` starts gateways on"
    " ws://127.0.0.1:18789.",
)
UPGRADE_DROPPED: Final = Cause(
    "upgrade-dropped",
    "`Unexpected server response: 200`, `400` or `426`; the dashboard loads and stays offline",
    "HTTP requests succeed, but the WebSocket upgrade does not: the proxy drops the `Upgrade`"
    " header, or uses HTTP/2 to the gateway.",
    "Configure the proxy to pass WebSockets over HTTP/1.1; nginx: `proxy_http_version 1.1;"
    ' proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";`.',
)
TOO_MANY_SOCKETS: Final = Cause(
    "too-many-sockets",
    "`503 Too many unauthenticated sockets`",
    "Too many connections from this address have no device or are not authenticated yet: a client"
    " retries in a loop, or many clients share one address.",
    "Wait 15 s. Behind a proxy, set `TRUSTED_PROXIES`; otherwise all clients count as one"
    " address. Stop a client that loops, or raise `GATEWAY_PREAUTH_LIMIT_PER_ADDRESS`.",
)
FULL: Final = Cause(
    "full",
    "`503 Too many connections`",
    "This replica has reached its connection limit, and devices hold all places.",
    "Add a replica, or raise `GATEWAY_CONNECTION_LIMIT` and `ulimit -n`.",
)
ADDRESS_FULL: Final = Cause(
    "address-full",
    "`503 Too many connections from this address`",
    "Devices of this address hold as many connections as one address may have.",
    "Behind a proxy, set `TRUSTED_PROXIES`; otherwise all clients count as one address. If so many"
    " devices do share it, raise `GATEWAY_CONNECTION_LIMIT_PER_ADDRESS`.",
)

# The WebSocket.

NO_CHALLENGE: Final = Cause(
    "no-challenge",
    "`connect challenge timeout`; the dashboard stays at Connecting",
    "The WebSocket opens, but the gateway's first frame does not arrive: a proxy buffers frames,"
    " or the server is not a gateway.",
    "Disable buffering for this host at the proxy (nginx: `proxy_buffering off;`); check that a"
    " gateway is behind it.",
)
NOT_A_GATEWAY: Final = Cause(
    "not-a-gateway",
    "`invalid connect.challenge`, close code 1002",
    "The server accepts WebSockets but does not speak the gateway's protocol.",
    "Check host, port and path; behind a proxy, check which service they are routed to.",
)
CUT: Final = Cause(
    "cut",
    "close code 1006; `socket hang up` during a session",
    "The connection was dropped without a close frame: by a proxy, the network, or a process that"
    " ended.",
    "Run this again. If it persists, check the proxy's log for this moment, and the gateway's log"
    " for a restart or a lack of memory.",
)
PINGS_SWALLOWED: Final = Cause(
    "pings-swallowed",
    "connections end after 25 to 60 s, close code 1006 or 4000 `tick timeout`",
    "WebSocket pings get no reply: a proxy drops control frames, so each end concludes that the"
    " other is gone.",
    "Configure the proxy to pass WebSocket frames unmodified (a plain tunnel after the upgrade);"
    " disable anything that inspects them.",
)
CLOCK_DIFFERS: Final = Cause(
    "clock-differs",
    "`device signature expired`, from clients that sign with their own clock",
    "The clocks of this machine and the gateway differ by more than two minutes, the maximum age"
    " of a signature.",
    "Correct the clock that is wrong: `timedatectl set-ntp true`; restart a virtual machine that"
    " was suspended.",
)

# Authentication and pairing.

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
    "The gateway does not allow pages from this origin to connect.",
    "Set `GATEWAY_ALLOWED_ORIGINS={origin}` on the gateways, exactly as in the browser's address"
    " bar, and restart them.",
)
INSECURE_PAGE: Final = Cause(
    "insecure-page",
    "`control ui requires device identity (use HTTPS or localhost secure context)`",
    "The dashboard connected without a device identity: browsers let a page create a key only"
    " over https or on localhost.",
    "Open the dashboard over https, or through a tunnel: `ssh -L 18789:127.0.0.1:18789 HOST`,"
    " then http://localhost:18789.",
)
TOKEN_MISSING: Final = Cause(
    "token-missing",
    "close code 1008 `unauthorized: gateway token missing`; `This Gateway expects its token`",
    "The client sends neither a gateway token nor a device token.",
    "Give it the gateway's `OPENCLAW_GATEWAY_TOKEN`: in the dashboard's settings, as `--token`,"
    " or in the environment. This command reads it from the environment or from"
    " .data/secrets.env.",
)
TOKEN_WRONG: Final = Cause(
    "token-wrong",
    "close code 1008 `unauthorized: gateway token mismatch`",
    "The client's token differs from the gateways' token.",
    "Use the first value of the gateways' `OPENCLAW_GATEWAY_TOKEN`, without quotes or spaces. If"
    " only some connections fail, the replicas have different values: set the same one on all of"
    " them.",
)
LOCKED_OUT: Final = Cause(
    "locked-out",
    "`unauthorized: too many failed authentication attempts (retry later)`",
    "Ten different wrong secrets came from this address within a minute, so it is locked out for"
    " five minutes. Correct secrets are rejected too.",
    "Stop the clients that use old tokens, then wait {wait} or lift the lock-out: `{latchkey}"
    " lockouts lift ADDRESS`. Behind a proxy, set `TRUSTED_PROXIES`; otherwise all clients count"
    " as one address.",
)
PROOF_REFUSED: Final = Cause(
    "proof-refused",
    "`device identity mismatch`, `device nonce mismatch`, `device signature invalid`",
    "The device's signature is invalid: its key file is damaged or belongs to another device, or"
    " something between client and gateway alters frames.",
    "Delete the client's stored device identity, so that it creates a new one, and approve that;"
    " disable anything that alters frames.",
)
SIGNATURE_STALE: Final = Cause(
    "signature-stale",
    "`device signature expired`",
    "The time of the signature differs from the gateway's clock by more than two minutes.",
    "Synchronize the clocks of the client and the gateway (`timedatectl set-ntp true`); check for"
    " a proxy that delays frames.",
)
DEVICE_TOKEN_VOID: Final = Cause(
    "device-token-void",
    "`unauthorized: device token mismatch (rotate/reissue device token)`",
    "The device's own token was rotated or revoked, or the device was removed.",
    "Connect once with the gateway token: the device gets a new token or requests approval.",
)
PAIRING_REQUIRED: Final = Cause(
    "pairing-required",
    "close code 1008 `pairing required: device is not approved yet`; `Approve this browser`",
    "Everything works. An operator has to approve this device, once for all replicas.",
    "`{latchkey} devices approve {request_id}`, or Manage Devices (`/setup` on the approval"
    " service). A protocol 4 dashboard then connects by itself. Reload a protocol 3 dashboard;"
    " run a command again.",
)
SCOPES_PENDING: Final = Cause(
    "scopes-pending",
    "`pairing required: device is asking for more scopes than currently approved`",
    "The device is paired and now requests more scopes.",
    "Review the request and approve it: `{latchkey} devices approve {request_id}`; or let the"
    " device request less.",
)
ROLE_PENDING: Final = Cause(
    "role-pending",
    "`pairing required: device is asking for a higher role than currently approved`",
    "The device is paired, but not for this role, or the role's token was revoked.",
    "Review the request and approve it: `{latchkey} devices approve {request_id}`.",
)
DETAILS_PENDING: Final = Cause(
    "details-pending",
    "`pairing required: device identity changed and must be re-approved`",
    "The device was paired with a different platform: its system changed, or its key was copied.",
    "If the change is expected, approve it again: `{latchkey} devices approve {request_id}`;"
    " otherwise remove the device: `{latchkey} devices remove {device_id}`.",
)
PENDING_FULL: Final = Cause(
    "pending-full",
    "close code 1013 `approval unavailable`, reason `pending-limit`",
    "Too many requests are pending, in total or from this address, so new ones are rejected.",
    "Approve or reject pending requests (`{latchkey} devices list`), or raise `PENDING_LIMIT` and"
    " `PENDING_LIMIT_PER_ADDRESS`.",
)

# Behind the gateway.

REDIS_AWAY: Final = Cause(
    "redis-away",
    "close code 1013 `redis unavailable`; `/readyz` 503 with `redis` in `failing`",
    "The gateway cannot reach Redis. Devices do not have to be approved again.",
    "Is Redis running? Check the gateways' `REDIS_URL`: host, port, password and user; the log"
    " event `bus_lost` has the reason.",
)
APPROVAL_AWAY: Final = Cause(
    "approval-away",
    "close code 1013 `approval unavailable`; `/readyz` 503 with `approval` in `failing`",
    "The gateway gets no response from an approval service. Devices do not have to be approved"
    " again.",
    "Start the approval service and check its `/readyz`; it must use the same Redis as the"
    " gateways.",
)
BUS_SECRETS_DIFFER: Final = Cause(
    "bus-secrets-differ",
    "close code 1013 `approval unavailable`, while approval's `/readyz` is 200",
    "Gateway and approval are both healthy but cannot exchange messages.",
    "Give all of them the same `BUS_SECRET` and the same Redis in `REDIS_URL`, and restart those"
    " you changed.",
)
NOT_READY: Final = Cause(
    "not-ready",
    "close code 1013; `/readyz` 503",
    "A dependency of the gateway is unavailable: {failing}.",
    "Read the reason at `/readyz` on its `OPS_PORT`; the gateway recovers by itself once the"
    " dependency is back.",
)
NO_ANSWER: Final = Cause(
    "no-answer",
    "close code 1013 `approval unavailable`, occasionally",
    "Approval did not answer this request in time, or is overloaded.",
    "Run this again. If it happens often, add an approval replica, and check"
    " `latchkey_gateway_beat_seconds` and Redis.",
)
REPLICAS_DISAGREE: Final = Cause(
    "replicas-disagree",
    "every other connection fails",
    "Some connections get a different answer: a replica is down, outdated or configured"
    " differently, and the proxy still routes to it.",
    "Compare `/readyz`, release and settings of all gateway replicas; restart those that differ;"
    " configure the proxy to check `/readyz`.",
)
PROXY_UNTRUSTED: Final = Cause(
    "proxy-untrusted",
    "all devices show the proxy's address; lock-outs affect all clients at once",
    "A proxy forwards its clients' addresses, but the gateway does not trust it.",
    "If {peer} is your proxy, set `TRUSTED_PROXIES={peer}` on the gateways and on approval; use a"
    " range such as `10.0.0.0/8` if its address changes.",
)
PROXY_UNREADABLE: Final = Cause(
    "proxy-unreadable",
    "all devices show the proxy's address, though it is in `TRUSTED_PROXIES`",
    "A trusted proxy sends no valid address for its clients, so all of them count as the proxy.",
    "Configure {peer} to send the client's address in `X-Forwarded-For` or `X-Real-IP`; the log"
    " event `proxy.unreadable` shows what it sends.",
)
APPROVAL_UNREACHABLE: Final = Cause(
    "approval-unreachable",
    "`approval does not answer`, exit code 3 of this command",
    "The approval service at `APPROVAL_URL` cannot be reached from here.",
    "Set `APPROVAL_URL` to its address, and check that it is running: `curl $APPROVAL_URL/readyz`.",
)
NOTIFICATIONS_FAILING: Final = Cause(
    "notifications-failing",
    "no notifications arrive; requests wait unnoticed",
    "A target of `WEBHOOK_TARGETS` does not accept notifications. They wait, and are tried again"
    " for up to 3 days.",
    "Check the address of {target} and what it answers: `{latchkey} webhooks test {target}`."
    " Targets with private addresses need `WEBHOOK_PRIVATE_ADDRESSES=yes`.",
)
ADMIN_TOKEN_WRONG: Final = Cause(
    "admin-token-wrong",
    "401 or 429 of the HTTP API, exit code 4 of this command",
    "Approval rejects this shell's `APPROVAL_ADMIN_TOKEN`, or this address is locked out.",
    "Use the value that the approval service runs with. After ten wrong values, wait five minutes.",
)
APPROVAL_NOT_READY: Final = Cause(
    "approval-not-ready",
    "approval's `/readyz` 503",
    "The approval service cannot reach Redis, or may not write to it: {failing}.",
    "Check its `REDIS_URL`, that Redis is running, and that its disk is not full; its Redis user"
    " needs the rights in deploy/users-6.acl.",
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
    "Redis answers before a write is on disk.",
    "Set `appendfsync always` in Redis, in its configuration file and at runtime: `redis-cli"
    " CONFIG SET appendfsync always`.",
)
MEMORY_EVICTS: Final = Cause(
    "memory-evicts",
    "individual devices have to be approved again, at random",
    "Redis evicts records when its memory is full.",
    "Set `maxmemory-policy noeviction` in Redis: `redis-cli CONFIG SET maxmemory-policy"
    " noeviction`.",
)
DRAINING_OFF: Final = Cause(
    "draining-off",
    "close code 1006 at every deploy, for all clients at once",
    "Railway kills the old replicas before they have asked their clients to reconnect.",
    "Set the service variable `RAILWAY_DEPLOYMENT_DRAINING_SECONDS={seconds}`.",
)

SECTIONS: Final = {
    "Network: name, TCP and TLS": NAME_UNKNOWN,
    "HTTP and proxies": NOT_HTTP,
    "The WebSocket": NO_CHALLENGE,
    "Authentication and pairing": PROTOCOL_MISMATCH,
    "Behind the gateway": REDIS_AWAY,
}
"""The first cause of each section of the page."""
ALL: Final = (
    *(value for value in tuple(globals().values()) if isinstance(value, Cause)),
    *openclaw_causes.ALL,
    *redis_causes.ALL,
    *upstream_causes.ALL,
)
