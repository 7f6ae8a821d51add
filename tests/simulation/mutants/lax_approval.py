"""Parts of approval, of its store's scripts and of the bus with a rule removed (tests only)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from services.approval.requests.liveness import LivenessPublisher
from shared.rpc.messages import Alive
from tests.simulation.checks.watched import WatchedRegistry
from tests.simulation.redis.scripts import Scripts
from tests.simulation.services.bus import SimulatedBus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.approval.domain.authorization import Caller
    from services.approval.storage.changes.transaction import Transaction
    from tests.simulation.redis.database import Database, Word


class AnswersWithoutWriting(Scripts):
    """R2: a heartbeat is answered although the server accepts no writes."""

    def heartbeat(
        self, data: Database, keys: Sequence[str], args: Sequence[Word], now_ms: int
    ) -> list[Any]:
        if data.writable:
            return super().heartbeat(data, keys, args, now_ms)
        at = int(data.hashes.get(keys[0], {}).get("at", b"0"))
        return [*self.history(data, keys, args, at, now_ms), 0]


class OutlivesRefusals(LivenessPublisher):
    """R2: goes on for 3 s after a refused write; stopping at once would hide that R2 is missing."""

    def _refused(self) -> None:
        pass


class AlwaysFresh(LivenessPublisher):
    """R3: answers and announces itself even if its own writes and events fail."""

    @property
    def fresh(self) -> bool:
        return True

    def _failed(self, why: str) -> None:
        super()._failed(why)
        self._tell(Alive(self._boot_id, ready=True))


class LooksNothingUp(Scripts):
    """R11: a call that already ran runs again."""

    def _seen(self, data: Database, keys: Sequence[str], plan: dict[str, Any]) -> list[Any] | None:
        return None


class NeverLate(Scripts):
    """R11: a call runs however late it arrives."""

    def is_late(self, not_after_ms: int, now_ms: int) -> bool:
        return False


class ReadsTheCallerOnly(WatchedRegistry):
    """R12: a caller's record is checked when read, and may have changed by the commit."""

    def _entry(self, caller: Caller) -> Transaction:
        return super()._entry(replace(caller, device_id=""))


class TrustsTheGateway(ReadsTheCallerOnly):
    """R12: a caller is authorized by what the gateway reports."""

    async def _narrowed(self, caller: Caller) -> Caller:
        return caller


class BuildsOnAnything(Scripts):
    """R13: a presence delta is applied whatever it builds on."""

    def builds_on(self, beat: int, base: int, at: int) -> bool:
        return beat > at


class HearsNoSilence(SimulatedBus):
    """R14: a silent subscription is kept forever."""

    silence_seconds = 1e6
