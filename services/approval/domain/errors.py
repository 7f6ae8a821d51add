"""Errors of the registry. The HTTP API and the socket methods each map them to their own texts.

RegistryError
├── NotAllowed            the caller may not do this
│   └── MissingScope      ... because it does not hold `scope`
├── UnknownRequest        the request id is neither pending nor ended within the last day
├── RequestOver           the request has ended: `state` says how, `successor` what replaced it
├── GrantsAdmin           approving would grant operator.admin without the caller's consent
├── UnknownLockout        no active lock-out of that credential class for that address
├── UnknownDevice         no paired device with that id
├── UnknownRole           the device holds no token for that role
├── UnknownOperator       no operator with that name
├── UnknownWebhook        no target of notifications with that name
├── InvalidName           the name has a character that names may not have
├── OperatorExists        an operator has that name already
├── TooManyOperators      the maximum number of operators exists
├── InvalidExpiry         the time of expiry has passed
├── UnknownRule           no approval rule with that name
├── RuleExists            an approval rule has that name already
├── TooManyRules          the maximum number of approval rules exists
├── InvalidRule           the approval rule contradicts itself: `problems` say how
├── InvalidLabel          the label is blank or too long
├── UnknownSetupCode      no setup code with that id is known
├── TooManySetupCodes     the maximum number of live setup codes exists
├── NoGatewayUrl          no gateway address is configured, and none was given
├── InvalidGatewayUrl     the gateway's address is malformed
├── InsecureGatewayUrl    plain ws:// to a public host
├── NoJoinUrl             join URLs need TLS, except on loopback
├── JoinNeedsNode         join URLs exist for the node profile only
├── NotEmpty              devices are already paired, and a restore does not overwrite them
├── OtherRestore          a different restore is in progress, or this part is out of order
├── UnsoundDevice         the backup's entry for a device is inconsistent
├── InvalidScope          `scope` belongs to none of the requested roles, or was never approved
└── StoreUnavailable      Redis did not answer in time: the outcome is unknown
    ├── UnreadableRecord  ... because the value under `key` cannot be decoded
    └── TooLate           the deadline has passed: nothing was written, and nobody waits any more
"""

from __future__ import annotations


class RegistryError(Exception):
    """Base class of all registry errors."""


class NotAllowed(RegistryError):
    """The caller may not do this."""


class MissingScope(NotAllowed):
    """The caller lacks a required scope."""

    def __init__(self, scope: str) -> None:
        super().__init__(f"missing scope: {scope}")
        self.scope = scope


class UnknownRequest(RegistryError):
    """No request with that id is pending or ended within the last day."""


class RequestOver(RegistryError):
    """The request has already ended."""

    def __init__(self, state: str, successor: str = "") -> None:
        super().__init__(f"the request is {state}")
        self.state = state
        self.successor = successor


class GrantsAdmin(RegistryError):
    """Approving the request would grant operator.admin, to which the caller did not consent."""


class UnknownLockout(RegistryError):
    """No lock-out of that credential class is active for that address."""


class UnknownDevice(RegistryError):
    """No device with that id is paired."""


class UnknownRole(RegistryError):
    """The device holds no token for that role, or it was revoked."""


class UnknownOperator(RegistryError):
    """No operator has that name."""


class UnknownWebhook(RegistryError):
    """No target of notifications has that name."""


class InvalidName(RegistryError):
    """The name has a character that names may not have."""


class OperatorExists(RegistryError):
    """An operator has that name already."""


class TooManyOperators(RegistryError):
    """The maximum number of operators exists."""


class InvalidExpiry(RegistryError):
    """The time of expiry has passed already."""


class UnknownRule(RegistryError):
    """No approval rule has that name."""


class RuleExists(RegistryError):
    """An approval rule has that name already."""


class TooManyRules(RegistryError):
    """The maximum number of approval rules exists."""


class InvalidRule(RegistryError):
    """An approval rule contradicts itself or is not bounded."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class InvalidLabel(RegistryError):
    """The label is blank or longer than 64 characters."""


class InvalidScope(RegistryError):
    """The scope cannot be granted here."""

    def __init__(self, scope: str) -> None:
        super().__init__(f"invalid scope: {scope}")
        self.scope = scope


class UnknownSetupCode(RegistryError):
    """No setup code with that id is known."""


class TooManySetupCodes(RegistryError):
    """The maximum number of live setup codes exists; `of_creator`: of this creator."""

    def __init__(self, *, of_creator: bool) -> None:
        super().__init__("too many live setup codes")
        self.of_creator = of_creator


class NoGatewayUrl(RegistryError):
    """No gateway address is configured, and none was given."""


class InvalidGatewayUrl(RegistryError):
    """The gateway's address is malformed."""


class InsecureGatewayUrl(RegistryError):
    """The gateway's address is plain `ws://` to a public host; `source` says where it is from."""

    def __init__(self, source: str) -> None:
        super().__init__(f"insecure gateway address from {source}")
        self.source = source


class NoJoinUrl(RegistryError):
    """Join URLs need TLS, except on loopback."""


class JoinNeedsNode(RegistryError):
    """Join URLs exist for the node profile only."""


class NotEmpty(RegistryError):
    """Devices are already paired."""


class OtherRestore(RegistryError):
    """The part does not continue the restore in progress."""


class UnsoundDevice(RegistryError):
    """A backup's entry for a device is inconsistent; the message says how."""


class StoreUnavailable(RegistryError):
    """Redis did not answer: the operation may or may not have been done."""


class UnreadableRecord(StoreUnavailable):
    """The value of a Redis key cannot be decoded, so the state it holds is unknown."""

    def __init__(self, key: str) -> None:
        super().__init__(f"{key} cannot be read")
        self.key = key


class TooLate(StoreUnavailable):
    """The caller's deadline has passed, so nothing was written."""

    def __init__(self) -> None:
        super().__init__("the deadline has passed")
