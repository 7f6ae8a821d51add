"""`make docs`: write docs/reference/, or with --check say which pages are stale."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools.docs.pages import REFERENCE, stale, write


def main(arguments: list[str] | None = None) -> int:
    """Write or check the pages; return the exit status."""
    parser = argparse.ArgumentParser(prog="make docs", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say which pages are stale")
    parser.add_argument("--directory", type=Path, default=REFERENCE, help="default: docs/reference")
    options = parser.parse_args(arguments)
    if not options.check:
        write(options.directory)
        return 0
    names = list(stale(options.directory))
    for name in names:
        print(f"docs/reference/{name} is not what the code declares.", file=sys.stderr)
    if names:
        print("Run make docs, and commit what it writes.", file=sys.stderr)
    return 1 if names else 0


if __name__ == "__main__":
    sys.exit(main())
