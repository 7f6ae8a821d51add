"""Container health check: `python -m shared.observability.probe`.

Requests `/readyz` at PORT on this machine. Exits with 0 if ready, else prints the answer and exits
with 1.
"""

from __future__ import annotations

import http.client
import os
import sys
from typing import Final

TIMEOUT_SECONDS: Final = 3.0
READY: Final = 200


def probe(port: int) -> str:
    """Return why the service on this port of 127.0.0.1 is not ready; empty if it is."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        body = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        connection.close()
    return "" if answer.status == READY else body


def main() -> int:
    """Run the health check and return the exit status."""
    port = os.environ.get("PORT", "")
    trouble = probe(int(port)) if port.isdecimal() else "PORT is not set"
    if trouble:
        sys.stderr.write(f"{trouble}\n")
    return 1 if trouble else 0


if __name__ == "__main__":
    sys.exit(main())
