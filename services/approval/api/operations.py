"""Table of the HTTP API's operations, from which routes and the OpenAPI description are built."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from services.approval import problems
from services.approval.api.parameters import (
    Approve,
    AuditQuery,
    DevicesQuery,
    EventsQuery,
    ImportPart,
    Nothing,
    RefusalsQuery,
    RejectMany,
    Rename,
    RequestsQuery,
    RestorePart,
    Rotate,
)
from services.approval.backup.format import Line
from services.approval.domain.permissions import Permission
from services.approval.domain.records import AuditEntry
from services.approval.imports.records import ImportedPart
from services.approval.schemas import devices as objects
from services.approval.schemas import lockouts, operators, rules, setup_codes, webhooks
from services.approval.schemas.history import AuditPage, RestoreProgress
from services.approval.schemas.refusals import RecentRefusals
from services.approval.schemas.replicas import LiveReplicas
from services.approval.schemas.sessions import EndedSession, OpenSession

if TYPE_CHECKING:
    import msgspec

    from services.approval.problems import Kind

VIEW: Final = Permission.VIEW
DECIDE: Final = Permission.DECIDE
MANAGE: Final = Permission.MANAGE

_EVERY_CALL: Final = (
    problems.MALFORMED,
    problems.UNAUTHORIZED,
    problems.CROSS_SITE,
    problems.LOCKED_OUT,
    problems.BUSY,
    problems.INTERNAL,
)
_OF_REQUEST: Final = (
    problems.UNKNOWN_REQUEST,
    problems.NOT_FOUND,
    problems.APPROVED,
    problems.REJECTED,
    problems.SUPERSEDED,
    problems.DISPLACED,
    problems.EXPIRED,
)
_OF_DEVICE: Final = (problems.UNKNOWN_DEVICE, problems.NOT_FOUND)
_OF_TOKEN: Final = (*_OF_DEVICE, problems.UNKNOWN_ROLE)


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation of the API: id, method, path, parameters, result and problems.

    `specific`: problems beyond those of every call. `permission`: what the operator must hold.
    `token_only`: a session cookie is not sufficient. `streams`: the response is an endless stream
    of server-sent events whose data is the result. `lines`: the response has one result object per
    line.
    """

    id: str
    method: str
    path: str
    summary: str
    result: type[msgspec.Struct]
    specific: tuple[Kind, ...] = ()
    permission: Permission = field(kw_only=True)
    token_only: bool = False
    body: type[msgspec.Struct] = Nothing
    query: type[msgspec.Struct] = Nothing
    streams: bool = False
    lines: bool = False
    changes: bool = field(init=False)
    """Whether the operation changes anything."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "changes", self.method != "GET")

    @property
    def problems(self) -> tuple[Kind, ...]:
        """All problems the operation can respond with."""
        brings = (problems.TOO_LARGE, problems.MEDIA) if self.changes else ()
        limited = (problems.NOT_ALLOWED,) if self.permission > VIEW else ()
        return (
            *_EVERY_CALL,
            *limited,
            *self.specific,
            *brings,
            problems.UNREADABLE,
            problems.UNAVAILABLE,
        )


OPERATIONS: Final = (
    Operation(
        "listRequests",
        "GET",
        "/v1/requests",
        "List pending requests, newest first",
        objects.PendingRequests,
        query=RequestsQuery,
        permission=VIEW,
    ),
    Operation(
        "approveRequest",
        "POST",
        "/v1/requests/{requestId}/approve",
        "Approve a request (idempotent)",
        objects.Approved,
        (*_OF_REQUEST, problems.INVALID_SCOPE, problems.GRANTS_ADMIN),
        body=Approve,
        permission=DECIDE,
    ),
    Operation(
        "rejectRequest",
        "POST",
        "/v1/requests/{requestId}/reject",
        "Reject a request (idempotent)",
        objects.Rejected,
        _OF_REQUEST,
        permission=DECIDE,
    ),
    Operation(
        "rejectRequests",
        "POST",
        "/v1/requests/reject",
        "Reject several requests atomically (idempotent)",
        objects.RejectedMany,
        body=RejectMany,
        permission=DECIDE,
    ),
    Operation(
        "listDevices",
        "GET",
        "/v1/devices",
        "List paired devices, most recently approved first",
        objects.PairedDevices,
        query=DevicesQuery,
        permission=VIEW,
    ),
    Operation(
        "getDevice",
        "GET",
        "/v1/devices/{deviceId}",
        "Show a paired device",
        objects.PairedDevice,
        _OF_DEVICE,
        permission=VIEW,
    ),
    Operation(
        "renameDevice",
        "PATCH",
        "/v1/devices/{deviceId}",
        "Set the label of a paired device",
        objects.Renamed,
        _OF_DEVICE,
        body=Rename,
        permission=DECIDE,
    ),
    Operation(
        "removeDevice",
        "DELETE",
        "/v1/devices/{deviceId}",
        "Remove a paired device and close its connections",
        objects.Removed,
        _OF_DEVICE,
        permission=DECIDE,
    ),
    Operation(
        "rotateToken",
        "POST",
        "/v1/devices/{deviceId}/tokens/{role}/rotate",
        "Issue a new token for a role and close the role's connections",
        objects.Rotated,
        (*_OF_TOKEN, problems.INVALID_SCOPE),
        body=Rotate,
        permission=DECIDE,
    ),
    Operation(
        "revokeToken",
        "POST",
        "/v1/devices/{deviceId}/tokens/{role}/revoke",
        "Revoke a role's token and close the role's connections (idempotent)",
        objects.Revoked,
        _OF_TOKEN,
        permission=DECIDE,
    ),
    Operation(
        "listRefusals",
        "GET",
        "/v1/refusals",
        "List refusals of the last day with reasons and remedies, newest first",
        RecentRefusals,
        query=RefusalsQuery,
        permission=VIEW,
    ),
    Operation(
        "readAudit",
        "GET",
        "/v1/audit",
        "Read the audit log",
        AuditPage,
        query=AuditQuery,
        permission=VIEW,
    ),
    Operation(
        "followEvents",
        "GET",
        "/v1/events",
        "Follow the audit log as server-sent events, by default from now on",
        AuditEntry,
        (problems.LISTENERS,),
        query=EventsQuery,
        streams=True,
        permission=VIEW,
    ),
    Operation(
        "listReplicas",
        "GET",
        "/v1/replicas",
        "List live gateways and approval replicas",
        LiveReplicas,
        permission=VIEW,
    ),
    Operation(
        "listLockouts",
        "GET",
        "/v1/lockouts",
        "List addresses that are locked out after too many wrong secrets",
        lockouts.Lockouts,
        permission=VIEW,
    ),
    Operation(
        "liftLockout",
        "DELETE",
        "/v1/lockouts/{credential}/{lockedAddress}",
        "Lift a lock-out at every replica",
        lockouts.LiftedLockout,
        (problems.UNKNOWN_LOCKOUT, problems.NOT_FOUND),
        permission=DECIDE,
    ),
    Operation(
        "listRules",
        "GET",
        "/v1/rules",
        "List approval rules, with their use",
        rules.RuleList,
        permission=VIEW,
    ),
    Operation(
        "addRule",
        "POST",
        "/v1/rules",
        "Add an approval rule",
        rules.AddedRule,
        (problems.RULE_EXISTS, problems.TOO_MANY_RULES, problems.INVALID_RULE),
        body=rules.NewRule,
        permission=MANAGE,
    ),
    Operation(
        "removeRule",
        "DELETE",
        "/v1/rules/{ruleName}",
        "Remove an approval rule; devices stay approved",
        rules.RemovedRule,
        (problems.UNKNOWN_RULE, problems.NOT_FOUND),
        permission=MANAGE,
    ),
    Operation(
        "tryRule",
        "POST",
        "/v1/rule-trials",
        "Show what an approval rule would approve; changes nothing",
        rules.RuleTrial,
        (problems.INVALID_RULE,),
        body=rules.NewRule,
        permission=MANAGE,
    ),
    Operation(
        "listSetupCodes",
        "GET",
        "/v1/setup-codes",
        "List live setup codes, newest first; without their secrets",
        setup_codes.SetupCodeList,
        permission=VIEW,
    ),
    Operation(
        "createSetupCode",
        "POST",
        "/v1/setup-codes",
        "Create a setup code, which pairs one device within ten minutes; the response has the code,"
        " which is shown only once",
        setup_codes.CreatedSetupCode,
        (
            problems.TOO_MANY_SETUP_CODES,
            problems.NO_GATEWAY_URL,
            problems.INVALID_GATEWAY_URL,
            problems.INSECURE_GATEWAY_URL,
            problems.NO_JOIN_URL,
        ),
        body=setup_codes.NewSetupCode,
        permission=DECIDE,
    ),
    Operation(
        "getSetupCode",
        "GET",
        "/v1/setup-codes/{setupId}",
        "Show a setup code, and which device it admitted; for twenty minutes after its end",
        setup_codes.SetupCodeObject,
        (problems.UNKNOWN_SETUP_CODE, problems.NOT_FOUND),
        permission=VIEW,
    ),
    Operation(
        "revokeSetupCode",
        "POST",
        "/v1/setup-codes/{setupId}/revoke",
        "Revoke a live setup code at every replica (idempotent)",
        setup_codes.RevokedSetupCode,
        (problems.UNKNOWN_SETUP_CODE, problems.NOT_FOUND),
        permission=DECIDE,
    ),
    Operation(
        "revokeSetupCodes",
        "POST",
        "/v1/setup-code-revocations",
        "Revoke all live setup codes",
        setup_codes.RevokedSetupCodes,
        permission=DECIDE,
    ),
    Operation(
        "listOperators",
        "GET",
        "/v1/operators",
        "List operators, with permission and last use",
        operators.OperatorList,
        permission=MANAGE,
    ),
    Operation(
        "createOperator",
        "POST",
        "/v1/operators",
        "Create an operator; the response has the token, which is shown only once",
        operators.CreatedOperator,
        (
            problems.OPERATOR_EXISTS,
            problems.BUILT_IN,
            problems.TOO_MANY_OPERATORS,
            problems.EXPIRES_IN_PAST,
        ),
        body=operators.NewOperator,
        permission=MANAGE,
    ),
    Operation(
        "revokeOperator",
        "DELETE",
        "/v1/operators/{operatorName}",
        "Revoke an operator's token, and end its sessions and event streams",
        operators.RevokedOperator,
        (problems.UNKNOWN_OPERATOR, problems.BUILT_IN, problems.NOT_FOUND),
        permission=MANAGE,
    ),
    Operation(
        "listWebhooks",
        "GET",
        "/v1/webhooks",
        "List targets of notifications, with what waits and the last error",
        webhooks.WebhookList,
        permission=VIEW,
    ),
    Operation(
        "testWebhook",
        "POST",
        "/v1/webhooks/{webhookName}/test",
        "Queue a test notification for a target",
        webhooks.TestedWebhook,
        (problems.UNKNOWN_WEBHOOK, problems.NOT_FOUND),
        permission=MANAGE,
    ),
    Operation(
        "readBackup",
        "GET",
        "/v1/backup",
        "Download all paired devices and the audit log, consistent as of one change",
        Line,
        (problems.BACKUPS,),
        token_only=True,
        lines=True,
        permission=MANAGE,
    ),
    Operation(
        "restorePart",
        "POST",
        "/v1/restore",
        "Restore part of a backup into a Redis without paired devices (idempotent)",
        RestoreProgress,
        (problems.NOT_EMPTY, problems.OTHER_RESTORE, problems.UNSOUND),
        token_only=True,
        body=RestorePart,
        permission=MANAGE,
    ),
    Operation(
        "importPart",
        "POST",
        "/v1/import",
        "Import devices that another system has paired; paired devices stay as they are",
        ImportedPart,
        token_only=True,
        body=ImportPart,
        permission=MANAGE,
    ),
    Operation(
        "openSession",
        "POST",
        "/v1/session",
        "Sign in to the operators' page: exchange a token for a session cookie",
        OpenSession,
        token_only=True,
        permission=VIEW,
    ),
    Operation(
        "readSession",
        "GET",
        "/v1/session",
        "Return whether the caller is signed in, and until when",
        OpenSession,
        permission=VIEW,
    ),
    Operation(
        "endSession",
        "DELETE",
        "/v1/session",
        "Sign out: end the cookie's session at every replica",
        EndedSession,
        permission=VIEW,
    ),
)
