"""Exit codes, which scripts may rely on. Pure."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of the command."""

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
        """When the command exits with this code."""
        return _MEANINGS[self]


_MEANINGS = {
    Exit.OK: "success; for `doctor`: no problem found",
    Exit.REFUSED: "refused or not found; for `doctor`: a problem was found",
    Exit.USAGE: "invalid arguments or settings",
    Exit.UNREACHABLE: "no approval service responds at `APPROVAL_URL`",
    Exit.NOT_AUTHORISED: "the token is missing or wrong, or this address is locked out",
    Exit.UNKNOWN: "approval cannot tell whether the operation was completed; retrying is safe",
    Exit.NOT_CONFIRMED: "not confirmed, so nothing was changed",
    Exit.INTERRUPTED: "Ctrl-C",
}
