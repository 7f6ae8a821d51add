"""What can end a command early.

CommandError
├── Refused          approval said no, or knows nothing of it
├── Misused          the arguments make no sense together
├── Unreachable      nobody answers, or somebody who is not approval
├── NotAuthorised    no admin token, a wrong one, or too many wrong ones
├── OutcomeUnknown   approval itself could not carry it out
└── NotConfirmed     a person said no, or there was nobody to ask
"""

from __future__ import annotations

from typing import ClassVar

from services.cli.exits import Exit


class CommandError(Exception):
    """`name` is for programs, the message for people; `advice` says what to do, line by line."""

    exit: ClassVar[Exit] = Exit.REFUSED

    def __init__(self, name: str, message: str, *advice: str) -> None:
        super().__init__(message)
        self.name = name
        self.message = message
        self.advice = advice


class ApiError(CommandError):
    """Approval said no, or knows nothing of it."""


class Misused(CommandError):
    """The arguments make no sense together."""

    exit = Exit.USAGE


class Unreachable(CommandError):
    """Nobody answers there, or somebody else."""

    exit = Exit.UNREACHABLE


class NotAuthorised(CommandError):
    """The admin token is missing or wrong."""

    exit = Exit.NOT_AUTHORISED


class OutcomeUnknown(CommandError):
    """Approval answered that it cannot say."""

    exit = Exit.UNKNOWN


class NotConfirmed(CommandError):
    """Nobody said yes."""

    exit = Exit.NOT_CONFIRMED
