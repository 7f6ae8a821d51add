"""Pairs the devices of a load test in advance: each requests access and is approved."""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from tools.load.client.devices import PROFILE, Identity, LoadDevice
from tools.load.client.session import Session
from tools.load.client.verdicts import PAIRING_REQUIRED, Kind
from tools.load.client.wire import upgrade_request
from tools.load.server.approval import ApprovalError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from tools.load.client.dialer import Dialer
    from tools.load.client.target import Target
    from tools.load.server.approval import Approval

AT_ONCE: Final = 16
"""Concurrent pairings, fewer than a gateway allows from one address."""
TRIES: Final = 5
TRY_AGAIN_SECONDS: Final = 0.5
LATE_LOOKS: Final = 5
LATE_SECONDS: Final = 0.3
SEED_BYTES: Final = 32


class PairingError(Exception):
    """A device could not be paired."""


class Caller:
    """Owner of sessions that connects each device once and returns the outcome."""

    def __init__(self, target: Target, dialer: Dialer, timeout: float) -> None:
        self.upgrade = upgrade_request(target.netloc, target.path)
        self._dialer = dialer
        self._timeout = timeout
        self._ends: dict[Session, asyncio.Future[None]] = {}

    async def connect(self, device: LoadDevice) -> Session:
        """Connect, disconnect if admitted, and return the session with its outcome."""
        session = Session(self, device, time.monotonic())
        end = self._ends[session] = asyncio.get_running_loop().create_future()
        self._dialer.dial(session)
        try:
            async with asyncio.timeout(self._timeout):
                await end
        except TimeoutError:
            session.give_up("timed out")
        finally:
            self._ends.pop(session, None)
            if not end.done():
                session.give_up("broken off")
        return session

    def admitted(self, session: Session) -> None:
        session.leave()

    def ended(self, session: Session) -> None:
        end = self._ends.get(session)
        if end is not None and not end.done():
            end.set_result(None)


def new_identities(count: int, *, approved: bool = False) -> list[Identity]:
    """Create unknown devices; `approved` marks them as allowed by other means."""
    return [Identity(secrets.token_bytes(SEED_BYTES), approved=approved) for _ in range(count)]


async def pair(
    identities: Sequence[Identity],
    *,
    caller: Caller,
    approval: Approval,
    gateway_token: str,
    shared_token: bool,
    done: Callable[[int], None],
) -> list[Identity]:
    """Pair every device: request access, approve it and fetch its token. Raises PairingError.

    The first one goes alone: if it cannot be approved, no other has left a request. `done` is
    called with the number of paired devices. With `shared_token` they keep the gateway's token.
    """
    gate = asyncio.Semaphore(AT_ONCE)
    count = 0

    async def one(identity: Identity) -> Identity:
        nonlocal count
        async with gate:
            device = LoadDevice(identity, gateway_token, 0)
            await approval.approve(_request_id(await _connect_until_decided(caller, device)))
            token = _device_token(await _connect_until_decided(caller, device))
        count += 1
        done(count)
        return Identity(identity.seed, "" if shared_token else token)

    first, *others = identities
    begun = [await one(first)]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(identity)) for identity in others]
    except ExceptionGroup as group_error:  # `except*` would wrap what it raises in another group
        raise first_of(group_error, PairingError, ApprovalError) from None
    return [*begun, *(task.result() for task in tasks)]


def first_of(group: ExceptionGroup, *kinds: type[Exception]) -> Exception:
    """Return the first error in a group if all are of these kinds, else the group itself."""
    return group if group.split(kinds)[1] else group.exceptions[0]


@asynccontextmanager
async def forgotten(approval: Approval, identities: Sequence[Identity]) -> AsyncIterator[None]:
    """On exit, remove these devices and reject their pending requests."""
    ids = {identity.device_id for identity in identities}
    broke_off = True
    try:
        yield
        broke_off = False
    finally:
        gate = asyncio.Semaphore(AT_ONCE)

        async def remove(device_id: str) -> None:
            async with gate:
                await approval.remove(device_id)

        # A request that was sent before the start was interrupted may arrive a little later.
        for _ in range(LATE_LOOKS if broke_off else 1):
            if not await approval.reject_all(ids) or not broke_off:
                break
            await asyncio.sleep(LATE_SECONDS)
        await asyncio.gather(*(remove(device_id) for device_id in ids))


async def _connect_until_decided(caller: Caller, device: LoadDevice) -> Session:
    """Connect until the device gets a decision, or the attempts are used up."""
    session = await caller.connect(device)
    for failed in range(1, TRIES):
        if session.outcome.kind not in {Kind.UNAVAILABLE, Kind.FAILED}:
            break
        await asyncio.sleep(failed * TRY_AGAIN_SECONDS)
        session = await caller.connect(device)
    return session


def _request_id(session: Session) -> str:
    """Return the id of the request that awaits approval."""
    error = session.answer.error if session.answer else None
    if error is None or error.details.code != PAIRING_REQUIRED or not error.details.request_id:
        raise PairingError(f"a new device was not asked to pair: {_what(session)}")
    return error.details.request_id


def _device_token(session: Session) -> str:
    """Return the device token issued at admission."""
    if session.answer is None or session.answer.payload is None:
        raise PairingError(f"a device just approved was not admitted: {_what(session)}")
    token = session.answer.payload.auth.device_token
    if not token:
        raise PairingError(f"an approved {PROFILE.role} received no device token")
    return token


def _what(session: Session) -> str:
    outcome = session.outcome
    close = f", closed {outcome.close_code} {outcome.close_reason}" if outcome.close_code else ""
    message = session.answer.error.message if session.answer and session.answer.error else ""
    return f"{outcome.kind}{f' ({outcome.what})' if outcome.what else ''} {message}{close}".strip()
