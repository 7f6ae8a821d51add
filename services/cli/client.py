"""Client of approval's HTTP API: one method per operation, typed results, CommandError subclasses.

Redirects are not followed, so the admin token never reaches another server.
"""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec
from msgspec import UNSET

from services.approval.api.parameters import REJECT_LIMIT_REQUESTS
from services.approval.api.public import Ready
from services.approval.backup.format import MEDIA_TYPE as BACKUP_TYPE
from services.approval.domain.listing import PART_LIMIT
from services.approval.imports.records import ImportedPart
from services.approval.problems import MEDIA_TYPE, TYPE_PREFIX, Problem
from services.approval.schemas import devices as objects
from services.approval.schemas.history import AuditPage, RestoreProgress
from services.approval.schemas.lockouts import LiftedLockout, Lockouts
from services.approval.schemas.refusals import RecentRefusals, Refusal
from services.approval.schemas.replicas import LiveReplicas
from services.cli.errors import ApiError, Misused, NotAuthorised, OutcomeUnknown, Unreachable
from services.cli.invocation import typed
from shared.addresses.typed import is_this_machine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from services.approval.api.parameters import ImportPart, RestorePart
    from services.approval.schemas.lockouts import LockoutObject
    from services.cli.config import Config

CALL_SECONDS: Final = 10.0
OK: Final = 200
URL_NEEDED: Final = (
    "must be the approval service's address, http:// or https://, without user, password, "
    "query or fragment"
)
_EVENTS: Final = "text/event-stream"
_STREAM_TIMEOUT: Final = aiohttp.ClientTimeout(
    total=None, sock_connect=CALL_SECONDS, sock_read=60.0
)

T = TypeVar("T", bound=msgspec.Struct)


class ApprovalClient:
    """Client of one approval service.

    Methods raise Unreachable, NotAuthorised, ApiError or OutcomeUnknown; the constructor raises
    Misused for an invalid address or token.
    """

    def __init__(self, url: str, token: str | None, config: Config) -> None:
        if not _is_address(url):
            raise Misused("wrong-setting", f"APPROVAL_URL: {URL_NEEDED}")
        if token is not None and not _is_header_value(token):
            raise Misused(
                "wrong-setting", "APPROVAL_ADMIN_TOKEN contains a character that is not allowed"
            )
        self.url = url
        self._token = token
        self._config = config

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=CALL_SECONDS),
            headers={"User-Agent": "latchkey"},
            json_serialize=lambda body: msgspec.json.encode(body).decode(),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def pending(self) -> list[objects.WaitingRequest]:
        """Return the pending requests, newest first."""
        return (await self.call("GET", "/v1/requests", objects.PendingRequests)).pending

    async def approve(self, request_id: str, *, allow_admin: bool = True) -> objects.Approved:
        """Approve a request; `allow_admin` False refuses one that would grant operator.admin."""
        path = f"/v1/requests/{request_id}/approve"
        body = None if allow_admin else {"allowAdmin": False}
        return await self.call("POST", path, objects.Approved, body)

    async def reject(self, request_id: str) -> objects.Rejected:
        """Reject a request."""
        return await self.call("POST", f"/v1/requests/{request_id}/reject", objects.Rejected)

    async def pending_from(self, address: str) -> objects.PendingRequests:
        """Return the newest requests from an address, up to the limit of one `reject_all` call."""
        query = {"address": address, "limit": str(REJECT_LIMIT_REQUESTS)}
        return await self.call("GET", "/v1/requests", objects.PendingRequests, query=query)

    async def reject_all(self, request_ids: list[str]) -> objects.RejectedMany:
        """Reject these requests in one call."""
        body = {"requestIds": request_ids}
        return await self.call("POST", "/v1/requests/reject", objects.RejectedMany, body)

    async def devices(self, search: str = "") -> list[objects.PairedDevice]:
        """Return the paired devices, or those that match `search`."""
        return (await self.listed_devices(search)).devices

    async def listed_devices(self, search: str = "") -> objects.PairedDevices:
        """Return all pages of the paired devices, and the devices whose records are unreadable.

        `search` never matches unreadable records.
        """
        query = {"limit": str(PART_LIMIT), **({"q": search} if search else {})}
        devices: list[objects.PairedDevice] = []
        unreadable: dict[str, objects.UnreadableDevice] = {}
        while True:
            part = await self.call("GET", "/v1/devices", objects.PairedDevices, query=query)
            devices += part.devices
            unreadable.update((item.device_id, item) for item in part.unreadable)
            if part.next is UNSET:
                return objects.PairedDevices(devices, unreadable=[*unreadable.values()])
            query["after"] = part.next

    async def device(self, device_id: str) -> objects.PairedDevice | None:
        """Return a paired device, or None if the id is unknown."""
        try:
            return await self.call("GET", f"/v1/devices/{device_id}", objects.PairedDevice)
        except ApiError as refused:
            if refused.name == "unknown-device":
                return None
            raise

    async def rename(self, device_id: str, label: str) -> objects.Renamed:
        """Set a device's label."""
        body = {"label": label}
        return await self.call("PATCH", f"/v1/devices/{device_id}", objects.Renamed, body)

    async def remove(self, device_id: str) -> objects.Removed:
        """Remove a paired device."""
        return await self.call("DELETE", f"/v1/devices/{device_id}", objects.Removed)

    async def rotate(self, device_id: str, role: str, scopes: list[str] | None) -> objects.Rotated:
        """Issue a new token for a role; `scopes` None keeps the current scopes."""
        path = f"/v1/devices/{device_id}/tokens/{role}/rotate"
        body = {} if scopes is None else {"scopes": scopes}
        return await self.call("POST", path, objects.Rotated, body)

    async def revoke(self, device_id: str, role: str) -> objects.Revoked:
        """Revoke a role's token."""
        path = f"/v1/devices/{device_id}/tokens/{role}/revoke"
        return await self.call("POST", path, objects.Revoked)

    async def lockouts(self) -> list[LockoutObject]:
        """Return the active lock-outs, latest end first."""
        return (await self.call("GET", "/v1/lockouts", Lockouts)).lockouts

    async def lift_lockout(self, credential: str, address: str) -> LockoutObject:
        """Lift a lock-out."""
        path = f"/v1/lockouts/{credential}/{address}"
        return (await self.call("DELETE", path, LiftedLockout)).lifted

    async def replicas(self) -> LiveReplicas:
        """Return the live replicas."""
        return await self.call("GET", "/v1/replicas", LiveReplicas)

    async def refusals(self, device_id: str = "", *, limit: int) -> list[Refusal]:
        """Return recent refusals, newest first, optionally of one device."""
        query = {"limit": str(limit), **({"deviceId": device_id} if device_id else {})}
        found = await self.call("GET", "/v1/refusals", RecentRefusals, query=query)
        return found.refusals

    async def audit(self, after: int | None, limit: int) -> AuditPage:
        """Return the first entries after `after`, or the newest if None; oldest first."""
        query = {**({} if after is None else {"after": str(after)}), "limit": str(limit)}
        return await self.call("GET", "/v1/audit", AuditPage, query=query)

    async def backup(self) -> AsyncIterator[bytes]:
        """Stream a backup."""
        async with self._stream("/v1/backup", BACKUP_TYPE) as content:
            async for chunk in content.iter_any():
                yield chunk

    async def restore(self, part: RestorePart) -> RestoreProgress:
        """Restore one part of a backup."""
        return await self.call("POST", "/v1/restore", RestoreProgress, part)

    async def import_part(self, part: ImportPart) -> ImportedPart:
        """Import some devices, or say what would happen."""
        return await self.call("POST", "/v1/import", ImportedPart, part)

    async def ready(self) -> Ready:
        """Return `/readyz`, which requires no token."""
        with self._reaching():
            async with self._session.get(f"{self.url}/readyz", allow_redirects=False) as response:
                text = await response.read()
        return self._decoded(text, Ready)

    async def events(self, after: int | None) -> AsyncIterator[tuple[int, str, bytes]]:
        """Yield events as (id, name, JSON) until the stream ends; the first has no name."""
        query = {} if after is None else {"after": str(after)}
        async with self._stream("/v1/events", _EVENTS, query) as content:
            number, name, data = 0, "", b""
            async for line in content:
                field, _, value = line.rstrip(b"\r\n").partition(b": ")
                if field == b"id":
                    number = int(value)
                elif field == b"event":
                    name = value.decode()
                elif field == b"data":
                    data = value
                elif not field and number:
                    yield number, name, data
                    number, name, data = 0, "", b""

    @asynccontextmanager
    async def _stream(
        self, path: str, media_type: str, query: Mapping[str, str] | None = None
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """Open a response whose body is read as it arrives, and may take long."""
        with self._reaching():
            async with self._session.get(
                self.url + path,
                params=query,
                headers=self._authority(),
                timeout=_STREAM_TIMEOUT,
                allow_redirects=False,
            ) as response:
                if response.status != OK or response.content_type != media_type:
                    raise self._refused(response.status, response, await response.read())
                yield response.content

    async def call(
        self,
        method: str,
        path: str,
        result: type[T],
        body: Any = None,
        *,
        query: Mapping[str, str] | None = None,
    ) -> T:
        """Make a call whose result is one JSON object; the path is sent as it is."""
        with self._reaching():
            async with self._session.request(
                method,
                self.url + path,
                params=query,
                json=body,
                headers=self._authority(),
                allow_redirects=False,
            ) as response:
                text = await response.read()
        if response.status != OK:
            raise self._refused(response.status, response, text)
        return self._decoded(text, result)

    def _decoded(self, text: bytes, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(text, type=kind)
        except msgspec.MsgspecError:
            raise self._not_approval() from None

    def _authority(self) -> dict[str, str]:
        if self._token is None:
            raise missing_token(self.url, self._config)
        return {"Authorization": f"Bearer {self._token}"}

    def _refused(self, status: int, response: aiohttp.ClientResponse, text: bytes) -> Exception:
        problem = _problem(response, text)
        if problem is None:
            return self._not_approval(status)
        name = problem.type.removeprefix(TYPE_PREFIX)
        if name == "unauthorized":
            return NotAuthorised(
                name,
                f"approval at {self.url} rejects this token",
                "Use the value of APPROVAL_ADMIN_TOKEN that the approval service runs with, or an",
                "operator's token that is neither revoked nor expired (APPROVAL_OPERATOR_TOKEN).",
            )
        if name == "locked-out":
            wait = response.headers.get("Retry-After", "300")
            return NotAuthorised(
                name, f"{problem.title}: locked out for another {wait} s", problem.detail
            )
        if status >= 500:  # noqa: PLR2004 (server errors)
            return OutcomeUnknown(name, problem.title, problem.detail)
        successor = problem.successor_request_id
        again = "Review its current request: " + typed(f"devices approve {successor}")
        return ApiError(name, problem.title, again if successor else problem.detail)

    def _not_approval(self, status: int = OK) -> Unreachable:
        return Unreachable(
            "not-approval",
            f"{self.url} is not Latchkey's approval service (HTTP {status})",
            "Set APPROVAL_URL to the approval service's address.",
        )

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Turn errors of the network and of HTTP into Unreachable."""
        try:
            yield
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise Unreachable(
                "unreachable",
                f"approval does not answer at {self.url}: {_reason(error)}",
                *(unreachable_advice(self._config)),
            ) from error


def _is_address(url: str) -> bool:
    if not url.isprintable() or any(mark in url for mark in "@?# "):
        return False
    try:
        parts = urlsplit(url)
        _ = parts.port
        (parts.hostname or "").encode("idna")
    except ValueError:  # UnicodeError is one
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname)


def _is_header_value(token: str) -> bool:
    try:
        token.encode()
    except UnicodeEncodeError:
        return False
    return token.isprintable()


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no response in time"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "DNS has no address for this name"
    if isinstance(error, aiohttp.ClientConnectorError) and not isinstance(error, ssl.SSLError):
        if isinstance(error.os_error, ConnectionRefusedError):
            return "connection refused"
        return error.os_error.strerror or str(error)
    return str(error) or type(error).__name__


def _problem(response: aiohttp.ClientResponse, text: bytes) -> Problem | None:
    try:
        if response.content_type == MEDIA_TYPE:
            return msgspec.json.decode(text, type=Problem)
    except msgspec.MsgspecError:
        pass
    return None


def unreachable_advice(config: Config) -> tuple[str, ...]:
    """Return advice on where to find approval."""
    if config.is_of_gateway:
        return gateway_shell_advice(config)
    known = config.public_url
    return (
        "Set APPROVAL_URL to the approval service's address"
        + (f" (operators use {known}/setup)" if known else "")
        + ". `make run` starts one on this machine and prints its address.",
    )


def gateway_shell_advice(config: Config) -> tuple[str, ...]:
    """Return advice for a gateway's shell, which has no admin token by design."""
    known = config.public_url
    return (
        "This is a gateway's shell. It has no admin token, so it cannot approve devices.",
        f"Open {known}/setup in a browser, or"
        if known
        else "APPROVAL_PUBLIC_URL is not set, so approval's address is unknown here:",
        "run latchkey in the approval service's shell. On Railway:",
        "railway ssh --service approval -- latchkey devices list",
    )


def missing_token(url: str, config: Config) -> NotAuthorised:
    """Return the error for a missing admin token, with advice on where to get it."""
    if config.is_of_gateway:
        return NotAuthorised(
            "gateway-shell", "devices cannot be approved from here", *gateway_shell_advice(config)
        )
    return NotAuthorised(
        "no-admin-token",
        "no admin token was found",
        f"Set APPROVAL_ADMIN_TOKEN to the value used by the approval service at {url},",
        _where_secrets_are(url, config),
    )


def _where_secrets_are(url: str, config: Config) -> str:
    if config.given_secrets_file is None and not is_this_machine(url):
        return "or name the file that contains it: --secrets FILE."
    return f"or run this command where `make run` has written {config.secrets_file}."
