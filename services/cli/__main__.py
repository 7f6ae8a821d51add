"""`python -m services.cli`: the command `latchkey`."""

from __future__ import annotations

import sys
from typing import Final

from shared import calling

_OURS: Final = frozenset({"services", "shared"})


def main() -> None:
    """Run the command and exit."""
    try:
        # Imported here because third-party packages may be missing.
        from services.cli.commands.completion import COMPLETE_VARIABLE  # noqa: PLC0415
        from services.cli.root import latchkey  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in _OURS:
            raise
        sys.exit(
            f"Latchkey is not installed here yet (no module {error.name}).\n"
            f"In {calling.LAUNCHER.parents[1]}, run `make run` or `make secrets` once."
        )
    latchkey(prog_name=calling.latchkey(), complete_var=COMPLETE_VARIABLE)


if __name__ == "__main__":
    main()
