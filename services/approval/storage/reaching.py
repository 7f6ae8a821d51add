"""The one way of saying that Redis could not be reached."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.approval.domain.errors import StoreUnavailable
from shared.redis.lost import is_lost

if TYPE_CHECKING:
    from types import TracebackType


class _Reaching:
    """Made once and used for all: it keeps nothing between its beginning and its end."""

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if is_lost(error):
            raise StoreUnavailable(f"{type(error).__name__}: {error}") from error


_REACHING = _Reaching()


def reaching_redis() -> _Reaching:
    """Raise StoreUnavailable for whatever goes wrong with Redis."""
    return _REACHING
