"""`python -m deploy.dashboard` (`make dashboard`): fetch OpenClaw's dashboard for `make run`."""

from __future__ import annotations

import os
import sys

from deploy.local.dashboard_package import Package, fetch_dashboard
from deploy.local.errors import RunError, file_problem
from deploy.local.places import shown

INTERRUPTED = 130


def main(package: Package | None = None) -> int:
    """Fetch the dashboard unless present; return the exit status."""
    package = package or Package()
    try:
        if not package.is_fetched:
            sys.stdout.write(f"Fetching the dashboard of {package.specification} with npm ...\n")
            sys.stdout.flush()
            fetch_dashboard(os.environ, package)
    except RunError as error:
        sys.stderr.write(f"No dashboard: {error}.\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"No dashboard: {file_problem(error)}.\n")
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    sys.stdout.write(f"The dashboard is in {shown(package.control_ui)}; `make run` serves it.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
