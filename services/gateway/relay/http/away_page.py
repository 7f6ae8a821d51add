"""The response to HTTP clients while the upstream is unreachable. Pure."""

from __future__ import annotations

from typing import Final

from services.gateway.dashboard.page import digest

_STYLE: Final = """
:root { color-scheme: light dark; }
body { max-width: 38rem; margin: 0 auto; padding: 3rem 1.5rem; }
body { font: 1rem/1.6 system-ui, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.3; }
"""

AWAY_RETRY_SECONDS: Final = 5
"""Interval at which the page reloads itself."""
POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{digest(_STYLE)}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
TEXT: Final = """\
OpenClaw cannot be reached right now.

This Latchkey gateway is running and devices can be paired, but the OpenClaw gateway behind it does
not answer. It may be starting. Operators: run `latchkey upstream check` for details.
"""
HTML: Final = f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="{AWAY_RETRY_SECONDS}">
<title>OpenClaw cannot be reached</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>OpenClaw cannot be reached right now</h1>
<p>This Latchkey gateway is running and devices can be paired, but the OpenClaw gateway behind it
does not answer. It may be starting: this page tries again every {AWAY_RETRY_SECONDS} seconds.</p>
<p>Operators: run <code>latchkey upstream check</code> for details.</p>
</main>
</body>
</html>
"""
