"""How the command ends: its exit codes, which scripts may rely on. Pure."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes; `meaning` says when."""

    OK = 0
    REFUSED = 1
    USAGE = 2
    UNREACHABLE = 3
    NOT_AUTHORISED = 4
    UNKNOWN = 5
    NOT_CONFIRMED = 6
    INTERRUPTED = 130

    @property
    def meaning(self) -> str:
        """When the command ends like this."""
        return _MEANINGS[self]


_MEANINGS = {
    Exit.OK: "done; for `doctor`: nothing is wrong",
    Exit.REFUSED: "refused, or not found; for `doctor`: something is wrong",
    Exit.USAGE: "the command was called in a way that makes no sense",
    Exit.UNREACHABLE: "no approval service answers at `APPROVAL_URL`",
    Exit.NOT_AUTHORISED: "the admin token is missing or wrong, or this address is locked out",
    Exit.UNKNOWN: "approval cannot say whether it was done; asking again is safe",
    Exit.NOT_CONFIRMED: "nobody said yes, so nothing was done",
    Exit.INTERRUPTED: "Ctrl-C",
}
