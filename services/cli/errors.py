"""Errors that end a command.

CommandError
├── ApiError         refused by approval, or not found
├── Misused          invalid arguments or settings
├── Unreachable      no response, or not from an approval service
├── NotAuthorised    the token is missing, wrong or locked out
├── OutcomeUnknown   approval could not complete the operation
└── NotConfirmed     the operator declined or could not be asked
"""

from __future__ import annotations

from typing import ClassVar

from services.cli.exits import Exit


class CommandError(Exception):
    """Base class: `name` for programs, `message` for people, `advice` as lines on what to do."""

    exit: ClassVar[Exit] = Exit.REFUSED

    def __init__(self, name: str, message: str, *advice: str) -> None:
        super().__init__(message)
        self.name = name
        self.message = message
        self.advice = advice


class ApiError(CommandError):
    """Approval refused the operation, or did not find its object."""


class Misused(CommandError):
    """Invalid arguments or settings."""

    exit = Exit.USAGE


class Unreachable(CommandError):
    """No response, or not from an approval service."""

    exit = Exit.UNREACHABLE


class NotAuthorised(CommandError):
    """The token is missing or wrong."""

    exit = Exit.NOT_AUTHORISED


class OutcomeUnknown(CommandError):
    """Approval could not complete the operation; its outcome is unknown."""

    exit = Exit.UNKNOWN


class NotConfirmed(CommandError):
    """The operator declined, or could not be asked."""

    exit = Exit.NOT_CONFIRMED
