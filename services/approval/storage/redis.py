"""Calls to Redis: failures become StoreUnavailable, and Lua scripts are loaded here."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from services.approval.domain.errors import StoreUnavailable
from shared.redis.errors import explain
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
        if isinstance(error, Exception) and is_lost(error):
            raise StoreUnavailable(explain(error)) from error


_REACHING = _Reaching()


def reaching_redis() -> _Reaching:
    """Raise StoreUnavailable if Redis fails inside the context."""
    return _REACHING


def load_script(name: str, *, with_history: bool = False) -> str:
    """Return the source of a Lua script; `with_history` prepends history.lua."""
    folder = files("services.approval.storage.scripts")
    source = folder.joinpath(name).read_text()
    return folder.joinpath("history.lua").read_text() + source if with_history else source
