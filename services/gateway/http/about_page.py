"""The page served at `/` when no dashboard is configured. Pure."""

from __future__ import annotations

import re
from html import escape
from typing import Final

from services.gateway.dashboard.page import digest

_STYLE: Final = """
:root { color-scheme: light dark; }
body { max-width: 38rem; margin: 0 auto; padding: 3rem 1.5rem; }
body { font: 1rem/1.6 system-ui, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.3; }
dt { font-weight: 600; margin-top: 1rem; }
dd { margin: 0; }
code { font: 0.9em ui-monospace, monospace; overflow-wrap: anywhere; }
"""

POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{digest(_STYLE)}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_TEXT: Final = """\
This is a Latchkey gateway. It speaks the OpenClaw gateway protocol over WebSocket, on any path:
{address}

A device that is refused with "pairing required" must be approved by an operator at
{approval}

To serve OpenClaw's dashboard here, start the gateway with CONTROL_UI_DIR set to
<npm package openclaw>/dist/control-ui
"""

_HTML: Final = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Latchkey gateway</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>This is a Latchkey gateway</h1>
<p>It speaks the OpenClaw gateway protocol over WebSocket, on any path.</p>
<dl>
<dt>Connect to</dt>
<dd>{address}</dd>
<dt>Refused with “pairing required”?</dt>
<dd>An operator must approve the device at {approval}</dd>
<dt>Looking for the dashboard?</dt>
<dd>Start the gateway with <code>CONTROL_UI_DIR</code> set to
<code>&lt;npm package openclaw&gt;/dist/control-ui</code> to serve it here.</dd>
</dl>
</main>
</body>
</html>
"""

_NO_ADDRESS: Final = "the address of this page, with ws:// or wss://"
_NO_APPROVAL: Final = "the approval service (APPROVAL_PUBLIC_URL is not set)"


NO_DEVICES_PAGE: Final = """\
Devices are approved on the approval service, but this gateway does not know its address.
Set APPROVAL_PUBLIC_URL to the public address of the approval service and restart the gateway.
Devices are then managed at <APPROVAL_PUBLIC_URL>/setup.
"""
"""The response of `/setup` when the approval service's address is not configured."""


def devices_page(approval_url: str) -> str:
    """Return the URL where operators manage devices, or "" if it is not configured."""
    return f"{approval_url}/setup" if approval_url else ""


def about_text(public_url: str, approval_url: str) -> str:
    """Return the page for clients that do not ask for HTML."""
    return _TEXT.format(
        address=_socket_url(public_url) or _NO_ADDRESS,
        approval=devices_page(approval_url) or _NO_APPROVAL,
    )


def about_html(public_url: str, approval_url: str) -> str:
    """Return the page for browsers."""
    page = escape(devices_page(approval_url))
    link = f'<a href="{page}" rel="noreferrer">{page}</a>'
    return _HTML.format(
        style=_STYLE,
        address=f"<code>{escape(_socket_url(public_url))}</code>" if public_url else _NO_ADDRESS,
        approval=link if approval_url else _NO_APPROVAL,
    )


def _socket_url(public_url: str) -> str:
    return re.sub("^http", "ws", public_url)
