"""A device of the load: it connects like real clients and records its observations."""

from __future__ import annotations

import asyncio
import random
from itertools import count
from typing import TYPE_CHECKING, Final

import aiohttp

from shared.device.client import DeviceClient
from shared.device.errors import DeviceClientError
from shared.device.handshake import Admitted, Credentials, Refused, replica_of
from shared.device.identity import DeviceKey
from shared.device.opening import Timeouts
from tools.drills.judging.observed import CUT_OFF, Attempt

if TYPE_CHECKING:
    from shared.device.profile import Profile
    from tools.drills.load.context import LoadContext

TIMEOUTS: Final = Timeouts(open=2.0, challenge=2.0, outcome=5.0, call=2.0, close=1.0, send=1.0)
FIRST_PAUSE_SECONDS: Final = 0.2
PAUSE_LIMIT_SECONDS: Final = 2.0
WRONG_TOKEN: Final = "AUTH_DEVICE_TOKEN_MISMATCH"
_numbers: Final = count(1)


def new_address() -> str:
    """Return an unused loopback address."""
    number = next(_numbers)
    return f"127.{1 + number // 62_500}.{1 + number // 250 % 250}.{1 + number % 250}"


class Device:
    """One device with an address of its own.

    With `token_only` it uses only its device token once it has one, like the dashboard.
    """

    def __init__(
        self, context_: LoadContext, profile: Profile, *, token_only: bool = False
    ) -> None:
        self.key: Final = DeviceKey.generate()
        self.id: Final = self.key.device_id
        self.token: str | None = None
        self.request_id = ""
        """The id of its pending request, if it has one."""
        self.token_only = token_only
        self.address = new_address()
        self._context = context_
        self._profile = profile
        self._failures = 0
        self._told_ms: int | None = None

    async def attempt(self, url: str) -> tuple[DeviceClient, str] | None:
        """Connect; return the connection and the replica's boot id, or None if refused.

        The caller closes the connection.
        """
        now = asyncio.get_running_loop().time
        began = now()
        self._told_ms = None
        client = Connection(url, self.key, self._profile, self._credentials(), self.address)
        stored = False
        try:
            outcome = await client.connect()
            self._write_down(began, now(), outcome)
            if isinstance(outcome, Admitted):
                self.token = outcome.device_token or self.token
                self._failures = 0
                stored = True
                return client, outcome.replica
            self._refused(outcome)
        except (DeviceClientError, OSError):
            self._failures += 1
        finally:
            if not stored:
                await client.close()
        return None

    def pause_seconds(self) -> float:
        """Return the delay before the next attempt: as requested, else doubling, with jitter."""
        if self._told_ms is not None:
            return self._told_ms / 1000
        return random.uniform(0.5, 1.0) * min(
            PAUSE_LIMIT_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(self._failures, 10)
        )

    def _credentials(self) -> Credentials:
        if self.token_only and self.token:
            return Credentials(device_token=self.token)
        return Credentials(token=self._context.stack.stack.gateway_token, device_token=self.token)

    def _write_down(self, began: float, at: float, outcome: Admitted | Refused) -> None:
        if isinstance(outcome, Admitted):
            replica, why = outcome.replica, ""
        else:
            replica = replica_of(outcome.connection_id)
            why = _why(outcome)
            self._told_ms = outcome.retry_after_ms
        self._context.seen.attempts.append(Attempt(self.id, began, at, replica, why))

    def _refused(self, outcome: Refused) -> None:
        self._failures += 1
        self.request_id = outcome.request_id or self.request_id
        if outcome.detail_code == WRONG_TOKEN:
            self.token = None


class Connection(DeviceClient):
    """A device client with a source address of its choice."""

    def __init__(
        self, url: str, key: DeviceKey, profile: Profile, credentials: Credentials, address: str
    ) -> None:
        super().__init__(url, key, profile, credentials=credentials, timeouts=TIMEOUTS)
        self._address = address

    def _own_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(local_addr=(self._address, 0)),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
            )
        return self._session


def _why(outcome: Refused) -> str:
    if outcome.code == "UNAVAILABLE":
        return outcome.code
    return outcome.detail_code or outcome.code or CUT_OFF
