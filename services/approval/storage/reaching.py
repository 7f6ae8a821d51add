"""Maps lost connections and failures of Redis to StoreUnavailable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.approval.domain.errors import StoreUnavailable
from shared.redis.lost import is_lost

if TYPE_CHECKING:
    from types import TracebackType


class _Reaching:
    """Stateless context manager, shared by all callers."""

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None and is_lost(error):
            raise StoreUnavailable(f"{type(error).__name__}: {error}") from error


_REACHING = _Reaching()


def reaching_redis() -> _Reaching:
    """Raise StoreUnavailable if Redis fails inside the context."""
    return _REACHING
