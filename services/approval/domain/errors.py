"""What can be wrong with a call to the registry. The API and the socket each say it in their words.

RegistryError
├── NotAllowed            the caller may not do this
│   └── MissingScope      ... because it does not hold `scope`
├── UnknownRequest        no such request id, now or in the last day
├── RequestOver           the request has ended: `state` says how, `successor` what replaced it
├── GrantsAdmin           approving would give operator.admin, and that was not agreed to
├── UnknownLockout        no lock-out of that kind of secret runs for that address
├── UnknownDevice         no paired device of that id
├── UnknownRole           the device holds no token of that role
├── InvalidLabel          a label that is blank or too long
├── NotEmpty              devices are paired already: nothing is restored over them
├── OtherRestore          another restore was begun, or this one elsewhere
├── UnsoundDevice         what a backup says of a device cannot be so
├── InvalidScope          `scope` belongs to none of the requested roles, or was never approved
└── StoreUnavailable      Redis did not answer, or not in time: the outcome is not known
    └── UnreadableRecord  ... because what is kept under `key` cannot be decoded
"""

from __future__ import annotations


class RegistryError(Exception):
    """Base of all errors of the registry."""


class NotAllowed(RegistryError):
    """The caller may not do this."""


class MissingScope(NotAllowed):
    """The caller does not hold a scope that this needs."""

    def __init__(self, scope: str) -> None:
        super().__init__(f"missing scope: {scope}")
        self.scope = scope


class UnknownRequest(RegistryError):
    """No request of that id waits, or has ended within the last day."""


class RequestOver(RegistryError):
    """The request has ended already."""

    def __init__(self, state: str, successor: str = "") -> None:
        super().__init__(f"the request is {state}")
        self.state = state
        self.successor = successor


class GrantsAdmin(RegistryError):
    """Approving the request would give operator.admin, which the caller did not agree to."""


class UnknownLockout(RegistryError):
    """No lock-out of that kind of secret runs for that address."""


class UnknownDevice(RegistryError):
    """No device of that id is paired."""


class UnknownRole(RegistryError):
    """The device holds no such token, or it was revoked."""


class InvalidLabel(RegistryError):
    """A label that is blank or longer than 64 characters."""


class InvalidScope(RegistryError):
    """A scope that cannot be granted here."""

    def __init__(self, scope: str) -> None:
        super().__init__(f"invalid scope: {scope}")
        self.scope = scope


class NotEmpty(RegistryError):
    """Devices are paired already."""


class OtherRestore(RegistryError):
    """The part does not go on from where a restore stands."""


class UnsoundDevice(RegistryError):
    """What a backup says of a device cannot be so; the message says what."""


class StoreUnavailable(RegistryError):
    """Redis did not answer: what was asked may or may not have been done."""


class UnreadableRecord(StoreUnavailable):
    """What Redis keeps under a key cannot be decoded: nothing is known of what it is about."""

    def __init__(self, key: str) -> None:
        super().__init__(f"{key} cannot be read")
        self.key = key
