"""`python -m services.approval.cli`: the command `latchkey`."""

from __future__ import annotations

from services.approval.cli.root import latchkey


def main() -> None:
    """Run the command; never returns."""
    latchkey(prog_name="latchkey")


if __name__ == "__main__":
    main()
